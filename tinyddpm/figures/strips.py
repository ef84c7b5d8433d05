"""Strips of images with captions, by Pillow alone: the data, the way into noise, the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinyddpm import rng
from tinyddpm.arrays import Array
from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import FiniteDataOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.figures.grid import grid

_ZOOM, _GAP, _MARGIN = 4, 4, 18
_INK, _GREY = (34, 38, 43), (110, 116, 124)


def noised(images: Array, schedule: NoiseSchedule, times: Sequence[int]) -> list[Array]:
    """Return ``images`` (N, H, W, C) in [−1, 1] as they are at each of ``times``."""
    diffusion, samples = GaussianDiffusion(schedule), np.arange(len(images))
    shape, dtype = images.shape[1:], images.dtype
    return [
        diffusion.q_sample(
            images,
            t,
            rng.normal(0, "preview", step=t, samples=samples, shape=shape, dtype=dtype),
        )
        for t in times
    ]


def data() -> Image.Image:
    """Draws from an unknown distribution: a hundred of the digits built in."""
    caption = "100 draws from an unknown distribution"
    return _captioned(grid(glyphs(100).images, columns=10, zoom=3, gap=3), title=caption)


def noised_strips() -> Image.Image:
    """Three digits on their way into noise, under the linear and the cosine schedule."""
    times = range(0, 1001, 100)
    x0 = from_bytes(glyphs(10).images[[2, 3, 8]], np.float64)
    columns = [noised(x0, s, times) for s in (NoiseSchedule.linear(), NoiseSchedule.cosine())]
    # (schedule, time, digit, …) → rows of digit and schedule, columns of time.
    rows = np.stack([np.stack(strip) for strip in columns]).transpose(2, 0, 1, 3, 4, 5)
    sheet = grid(to_bytes(rows.reshape(-1, *x0.shape[1:])), columns=11, zoom=_ZOOM, gap=_GAP)
    return _captioned(
        sheet,
        title="The same digits under two schedules",
        above=["t = 0", *map(str, times[1:])],
        left=["linear", "cosine"] * 3,
    )


def reverse_trajectory() -> Image.Image:
    """Three draws on their way back from noise, and the images foreseen on the way.

    The model is the exact one of 200 digits: it foresees the mean of those that x_t may be.
    """
    schedule, n, times = NoiseSchedule.cosine(), 3, [999, *range(900, -1, -100)]
    oracle = FiniteDataOracle(schedule, from_bytes(glyphs(200).images, np.float64))
    chain = GaussianDiffusion(schedule, variance="beta_tilde")
    steps = chain.sample_steps(oracle, (n, 16, 16, 1), seed=3)
    noisy, foreseen = zip(*((x, x0_hat) for t, x, x0_hat in steps if t - 1 in times), strict=True)
    rows = np.stack([np.stack(noisy), np.stack(foreseen)]).transpose(2, 0, 1, 3, 4, 5)
    sheet = grid(to_bytes(rows.reshape(-1, 16, 16, 1)), columns=len(times), zoom=_ZOOM, gap=_GAP)
    return _captioned(
        sheet,
        title="Back from noise with the exact model of 200 digits",
        above=[f"t = {times[0]}", *map(str, times[1:])],
        left=["noisy", "foreseen"] * n,
    )


def _captioned(
    sheet: Image.Image, *, title: str, above: Sequence[str] = (), left: Sequence[str] = ()
) -> Image.Image:
    """Set ``sheet`` on white paper, with a title, and a word for each column and each row."""
    font, small = ImageFont.load_default(17), ImageFont.load_default(13)
    side = _MARGIN + (math.ceil(max(small.getlength(word) for word in left)) + 12 if left else 0)
    top = _MARGIN + 30 + (22 if above else 0)
    size = (side + sheet.width + _MARGIN, top + sheet.height + _MARGIN)
    paper = Image.new("RGB", size, "white")
    paper.paste(sheet, (side, top))
    draw = ImageDraw.Draw(paper)
    draw.text((side, _MARGIN - 4), title, fill=_INK, font=font)
    for i, word in enumerate(above):
        centre = side + (i + 0.5) * (sheet.width + _GAP) / len(above) - _GAP / 2
        draw.text((centre, top - 8), word, fill=_GREY, font=small, anchor="ms")
    for i, word in enumerate(left):
        centre = top + (i + 0.5) * (sheet.height + _GAP) / len(left) - _GAP / 2
        draw.text((side - 10, centre), word, fill=_GREY, font=small, anchor="rm")
    return paper
