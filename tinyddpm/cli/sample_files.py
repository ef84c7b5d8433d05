"""The files that ``tinyddpm sample`` leaves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from tinyddpm.cli.messages import say
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import UsageError
from tinyddpm.figures.animation import (
    check_animation_name,
    check_animation_size,
    check_frames_folder,
    save_animation,
    save_frames,
)
from tinyddpm.figures.grid import grid, grid_size, save_png, zoom_for
from tinyddpm.files import write_atomically
from tinyddpm.output_folder import check_folder_of


class SampleFiles(NamedTuple):
    """Where the results go; what is None was not asked for.

    Attributes:
        out: the picture.
        npz: the images themselves.
        gif: the way from noise to the picture, animated.
        frames: a folder for the same, frame by frame.
    """

    out: Path
    npz: Path | None
    gif: Path | None
    frames: Path | None

    @property
    def film(self) -> bool:
        """Whether more is wanted than the end of the way."""
        return bool(self.gif or self.frames)

    def check(self) -> None:
        """Refuse before the work what could not be written after it.

        Raises:
            UsageError: a name is that of another kind of file, or no folder is there for it.
            StorageError: the folder cannot be written to.
        """
        if self.out.suffix.lower() != ".png":
            raise UsageError(f"the picture is a PNG, and {self.out} is not named like one")
        if self.npz and self.npz.suffix.lower() != ".npz":
            raise UsageError(f"the images are a .npz, and {self.npz} is not named like one")
        if self.gif:
            check_animation_name(self.gif)
        if self.frames:
            check_frames_folder(self.frames)
        paths = [path.parent.resolve() / path.name for path in self if path]
        for i, path in enumerate(paths):
            if path in paths[:i]:
                raise UsageError(f"two results cannot both be {path}")
            if self.frames and path.parent == self.frames.resolve():
                raise UsageError(f"{self.frames} is for the frames alone, and not for {path.name}")
            check_folder_of(path)

    def check_size(self, shape: tuple[int, ...], columns: int | None) -> None:
        """Likewise, once it is known that the images will be of ``shape`` (N, H, W, C).

        Raises:
            UsageError: they make a picture too large for the file.
        """
        if self.gif:
            size = grid_size(shape, columns=columns, zoom=zoom_for(shape))
            check_animation_size(self.gif, size)

    def write(self, film: list[ByteArray], columns: int | None) -> None:
        """Write what was asked for, and the names to stdout.

        Args:
            film: the images (N, H, W, C) at one time after the other; the last are the result.
            columns: images in a row; None: as many as make the picture nearly square.
        """
        images = film[-1]
        sheet = partial(grid, columns=columns, zoom=zoom_for(images.shape))
        save_png(sheet(images), self.out)
        click.echo(self.out)
        if self.npz:
            write_atomically(self.npz, lambda file: np.savez(file, images=images))
            click.echo(self.npz)
        if self.gif:
            if self.gif.suffix.lower() == ".gif" and images.shape[-1] == 3:
                say("note: a frame of a GIF has 256 colours at most; --gif FILE.png keeps them all")
            save_animation(map(sheet, film), len(film), self.gif)
            click.echo(self.gif)
        if self.frames:
            save_frames(map(sheet, film), self.frames)
            click.echo(self.frames)
