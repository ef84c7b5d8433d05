"""Pictures in a row: animated GIF and PNG, and folders of frames, pixel for pixel as they came.

Both files are a header and then frames that come one at a time, so that however long the animation,
one picture is in memory. Every frame is whole and covers the one before: to store only what changed
gains nothing where noise changes everywhere, and it is what makes other writers inexact.

    GIF   CompuServe 1990 (GIF89a), with the loop of Netscape: 256 colours, time in 1/100 s.
          A frame of grey is exact. A frame in colour gets a palette of its own, by median cut, and
          is exact only if it has no more than 256 colours.
    APNG  W3C 2025 (PNG, third edition): exact for grey and for colour, time in ms here.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from tinyddpm.errors import UsageError
from tinyddpm.figures.grid import save_png
from tinyddpm.files import storage_errors, write_atomically

FRAMES = 50
FRAME_MS, LAST_FRAME_MS = 60, 2000
_GIF_SIDE = 2**16 - 1  # pixels
_WRITTEN_HERE = re.compile(r"frame-\d{3}\.png")


def kept_times(steps: int) -> list[int]:
    """Return the t of the x_t that are worth a frame, from a chain of ``steps``: the last is 0.

    All x_{steps−1} … x_0 of a short chain, else 50 of them, evenly spaced.
    """
    return sorted({k * steps // FRAMES for k in range(FRAMES)}, reverse=True)


def save_animation(sheets: Iterable[Image.Image], count: int, path: Path) -> None:
    """Write ``count`` pictures to ``path``, a .gif or .png: the whole file or none.

    Args:
        sheets: grey ("L") or all "RGB", all of one size.
        count: how many there are.
        path: its name says which kind.

    Raises:
        UsageError: the name is that of another kind of file, or they are too large for a GIF.
        StorageError: the file cannot be written.
    """
    check_animation_name(path)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_apng
    write_atomically(path, lambda file: write(sheets, count, file))


def check_animation_name(path: Path) -> None:
    """Refuse a ``path`` that is not named like an animation.

    Raises:
        UsageError: it ends neither in .gif nor in .png.
    """
    if path.suffix.lower() not in {".gif", ".png"}:
        raise UsageError(
            f"an animation is a .gif or an animated .png, and {path} is not named like one"
        )


def check_animation_size(path: Path, size: tuple[int, int]) -> None:
    """Refuse pictures of a ``size``, width and height, that the animation ``path`` cannot have.

    Raises:
        UsageError: it is a GIF, which has 16 bits for each.
    """
    if path.suffix.lower() == ".gif":
        _check_gif_size(size)


def _check_gif_size(size: tuple[int, int]) -> None:
    if max(size) > _GIF_SIDE:
        raise UsageError(
            f"a GIF has at most {_GIF_SIDE} pixels a side",
            cause=f"this one would have {size[0]}×{size[1]}",
            remedy="an animated .png, or fewer images in a row",
        )


def _duration(index: int, count: int) -> int:
    return LAST_FRAME_MS if index == count - 1 else FRAME_MS


def _write_gif(sheets: Iterable[Image.Image], count: int, file: BinaryIO) -> None:
    """The palette of the file is that of grey; frames in colour bring their own."""
    for index, sheet in enumerate(sheets):
        if index == 0:
            _check_gif_size(sheet.size)
            file.write(b"GIF89a" + struct.pack("<HHBBB", *sheet.size, 0xF7, 0, 0))
            file.write(bytes(level for level in range(256) for _ in "rgb"))
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # repeat without end
        grey = sheet.mode == "L"
        frame = sheet if grey else sheet.quantize(256)
        duration = _duration(index, count)
        blocks = GifImagePlugin.getdata(frame, duration=duration, include_color_table=not grey)
        file.writelines(blocks)
    file.write(b"\x3b")


def _write_apng(sheets: Iterable[Image.Image], count: int, file: BinaryIO) -> None:
    """One sequence number counts control (fcTL) and data (fdAT) chunks; the first data are IDAT."""
    number = 0
    for index, sheet in enumerate(sheets):
        if index == 0:
            colour_type = 0 if sheet.mode == "L" else 2
            file.write(b"\x89PNG\r\n\x1a\n")
            file.write(_chunk(b"IHDR", struct.pack(">IIBB3x", *sheet.size, 8, colour_type)))
            file.write(_chunk(b"acTL", struct.pack(">II", count, 0)))  # repeat without end
        delay = struct.pack(">HH2x", _duration(index, count), 1000)
        file.write(_chunk(b"fcTL", struct.pack(">III8x", number, *sheet.size) + delay))
        number += 1
        if index == 0:
            file.write(_chunk(b"IDAT", _scanlines(sheet)))
        else:
            file.write(_chunk(b"fdAT", struct.pack(">I", number) + _scanlines(sheet)))
            number += 1
    file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _scanlines(sheet: Image.Image) -> bytes:
    """The rows of ``sheet``, each after the number of its filter (0, none), compressed."""
    rows = np.asarray(sheet).reshape(sheet.height, -1)
    return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())


def check_frames_folder(folder: Path) -> None:
    """Refuse a ``folder`` that holds anything but frames written here earlier.

    Raises:
        UsageError: it does, or it is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"the frames need a folder, and {folder} is a file")
    foreign = sorted(p.name for p in folder.iterdir() if not _WRITTEN_HERE.fullmatch(p.name))
    if foreign:
        raise UsageError(
            f"the folder {folder} holds other files than frames, and is not overwritten",
            cause=", ".join(foreign[:3]),
            remedy="a folder that is empty or not there yet",
        )


def save_frames(sheets: Iterable[Image.Image], folder: Path) -> None:
    """Write frame-001.png, frame-002.png … to ``folder``, and remove the frames of an earlier call.

    They are written beside it, and take its place when the last of them is on disk.

    Raises:
        UsageError: the folder holds anything but frames written here earlier.
        StorageError: they cannot be written.
    """
    check_frames_folder(folder)
    target = folder.resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with storage_errors(folder):
            part.mkdir()
        for number, sheet in enumerate(sheets, start=1):
            save_png(sheet, part / f"frame-{number:03}.png")
        with storage_errors(folder):
            for old in target.glob("frame-*.png"):
                old.unlink()
            part.replace(target)  # a folder may take the place of an empty one
    finally:
        shutil.rmtree(part, ignore_errors=True)
