"""What products are computed of: images and weights, rounded and padded (``operands.cu``).

An operand is of the product's precision and its channels are padded with zeros to pieces of 16
bytes. In fp32 nothing is rounded or padded, and an image is an operand as it is, unless it is in
two parts. The others cost a pass over the image, 6 (bf16) or 8 (tf32) bytes a value, but where the
kernel before has written operands itself; what a forward keeps for its backward is the operand, in
bf16 half the bytes of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.between import FromNorm
from tinyddpm.kernels.cuda.items import table_of
from tinyddpm.kernels.cuda.joined import Joined, Parts
from tinyddpm.kernels.cuda.partial_sums import AtOnce, Gradient, Sums, summed
from tinyddpm.kernels.cuda.runtime import (
    Argument,
    Dim3,
    Precision,
    Runtime,
    blocks,
)
from tinyddpm.kernels.cuda.source import Defines

# About the most slabs into which pixels are cut, and the fewest pixels in one where there are more,
# if they are of all images together. Images that are cut by themselves are many blocks as they are:
# the fewest values in a slab of one are then 32 for each thread.
_SLABS, _SLAB, _SLAB_OF_IMAGE = 512, 16, 8192
_THREADS = 256  # of a block


class Format(NamedTuple):
    """How a precision keeps the values of an operand."""

    dtype: npt.DTypeLike  # what is rounded is kept as its bits
    piece: int  # channels are a multiple of it
    c_name: str  # of the type, in the kernels


FORMATS: dict[Precision, Format] = {
    "fp32": Format(np.float32, 1, "float"),
    "tf32": Format(np.uint32, 4, "tf32"),
    "bf16": Format(np.uint16, 8, "bf16"),
}

C_NAMES = {np.dtype(form.dtype).name: form.c_name for form in FORMATS.values()}


def written_as(precision: Precision, channels: int) -> npt.DTypeLike:
    """The type in which a kernel may write an image that will be multiplied in ``precision``: that
    of its operands where no channels are padded, else float32.
    """
    form = FORMATS[precision]
    return np.float32 if channels % form.piece else form.dtype


def left_to_a_norm(precision: Precision, channels: int) -> npt.DTypeLike:
    """The type in which a product of ``precision`` may write what a norm alone reads: that of its
    operands where these are shorter than float32 and no channels are padded.
    """
    written = np.dtype(written_as(precision, channels))
    return written if written.itemsize < 4 else np.float32


def operands_defines(precision: Precision) -> Defines:
    """The constants of ``operands.cu``."""
    return {"OPERAND": FORMATS[precision].c_name}


class Operand(NamedTuple):
    """An image, or a weight turned so that the channels which it is multiplied by come last."""

    values: Array  # (…, channels padded)
    channels: int


class Weights(NamedTuple):
    """A weight and its operands."""

    values: Array  # (kh, kw, C_in, C_out)
    by_out: Operand  # (C_out, kh, kw, C_in): multiplies images of C_in channels
    by_in: Operand  # (C_in, kh, kw, C_out): multiplies images of C_out channels


class _Slabs(NamedTuple):
    """How the pixels of some images, every pixel a row, are cut into what one block takes."""

    images: int
    rows: int  # of an image
    number: int  # of slabs of an image
    each: int  # rows in a slab

    @classmethod
    def of(cls, x: Parts, images: int) -> _Slabs:
        """Cut ``x`` (…, C), whose pixels are those of so many ``images``."""
        rows = math.prod(x.shape[:-1]) // images
        fewest = _SLAB if images == 1 else blocks(_SLAB_OF_IMAGE, x.shape[-1])
        number = min(blocks(_SLABS, images), blocks(rows, fewest))
        return cls(images, rows, number, blocks(rows, number))


@final
class Operands:
    """Makes the operands of products in one precision; ``sums`` forms sums over all pixels."""

    def __init__(self, runtime: Runtime, precision: Precision, sums: Sums | None = None) -> None:
        self._runtime, self._format = runtime, FORMATS[precision]
        self._sums = sums or AtOnce(runtime)
        self._defines = operands_defines(precision)
        self._packs_images = precision != "fp32"

    def image(self, x: Array | Joined) -> Operand:
        """Return the operand of ``x`` (N, H, W, C): itself where it was written as one."""
        read = Parts.of(x)
        if read.first.dtype != np.float32 or not (self._packs_images or read.rest is not None):
            return Operand(read.first, read.split)
        operand = self._operand_like(read)
        self._pack(read, operand.values, None, _Slabs.of(read, 1))
        return operand

    def image_and_sums(
        self, x: Array | FromNorm, *, by_image: bool = False
    ) -> tuple[Operand, Gradient]:
        """Return the operand of ``x`` (N, H, W, C) and the sums of ``x`` over all pixels, (C,), or
        over those of each image, (N, C).
        """
        if isinstance(x, FromNorm):
            operand, partial = self.image(x.values), x.sums
        else:
            operand, partial = self._packed_and_summed(x, len(x) if by_image else 1)
        if by_image:
            return operand, summed(self._runtime, partial)
        return operand, self._sums.sum_up(partial.reshape(-1, partial.shape[-1]))

    def _packed_and_summed(self, x: Array, images: int) -> tuple[Operand, Array]:
        """The operand, and the sums over each slab of so many images, (slabs, images, C)."""
        read = Parts.of(x)
        operand, packed = Operand(read.first, read.split), None
        if self._packs_images:
            operand = self._operand_like(read)
            packed = operand.values
        slabs = _Slabs.of(read, images)
        partial = self._runtime.empty((slabs.number, slabs.images, x.shape[-1]))
        self._pack(read, packed, partial, slabs)
        return operand, partial

    def weights(self, weight: Array) -> Weights:
        """Return ``weight`` (kh, kw, C_in, C_out), without gaps, with its operands."""
        kh, kw, c_in, c_out = weight.shape
        by_out = self._runtime.empty((c_out, kh, kw, self._padded(c_in)), self._format.dtype)
        by_in = self._runtime.empty((c_in, kh, kw, self._padded(c_out)), self._format.dtype)
        made = Weights(weight, Operand(by_out, c_in), Operand(by_in, c_out))
        self._pack_weights([made])
        return made

    def doubling_weights(self, weight: Array) -> Weights:
        """Return the 4×4 weight that stands for doubling, then ``weight`` 3×3, and its operands."""
        _, _, c_in, c_out = weight.shape
        folded = self._runtime.empty((4, 4, c_in, c_out))
        self._fold(weight, folded)
        return self.weights(folded)

    def refresh(self, prepared: Iterable[PreparedWeight]) -> None:
        """Make all operands of the ``prepared`` weights anew, where they are, by one launch and one
        for each that is folded.
        """
        made: list[Weights] = []
        for weight in prepared:
            plain, folded = weight.made
            if folded:
                self._fold(weight.values, folded.values)
            made += [form for form in (plain, folded) if form]
        if made:
            self._pack_weights(made)

    def _fold(self, weight: Array, folded: Array) -> None:
        _, _, c_in, c_out = weight.shape
        args = (weight, folded, c_in * c_out)
        self._launch("fold_doubling", (blocks(c_in * c_out, _THREADS),), (_THREADS,), args)

    def _pack_weights(self, weights: Sequence[Weights]) -> None:
        rows, items = [], []
        for values, by_out, by_in in weights:
            kh, kw, c_in, c_out = values.shape
            addresses = (self._runtime.address(a) for a in (values, by_out.values, by_in.values))
            c_in_padded, c_out_padded = self._padded(c_in), self._padded(c_out)
            rows.append((*addresses, kh * kw, c_in, c_in_padded, c_out, c_out_padded))
            items.append(kh * kw * blocks(c_in_padded, 32) * blocks(c_out_padded, 32))
        table = table_of(self._runtime, rows, items)
        self._launch("pack_weights", (sum(items),), (32, 8), (table, len(rows)))

    def unfolded(self, dfolded: Array) -> Array:
        """Return ``dweight`` (3, 3, C_in, C_out) for ``dfolded`` (4, 4, C_out, C_in)."""
        _, _, c_out, c_in = dfolded.shape
        dweight = self._runtime.empty((3, 3, c_in, c_out))
        args = (dfolded, dweight, c_in, c_out)
        self._launch("unfold_doubling", (blocks(c_in * c_out, _THREADS),), (_THREADS,), args)
        return dweight

    def _padded(self, channels: int) -> int:
        return blocks(channels, self._format.piece) * self._format.piece

    def _operand_like(self, x: Parts) -> Operand:
        *pixels, channels = x.shape
        shape = (*pixels, self._padded(channels))
        return Operand(self._runtime.empty(shape, self._format.dtype), channels)

    def _pack(self, x: Parts, packed: Array | None, partial: Array | None, slabs: _Slabs) -> None:
        channels, piece = x.shape[-1], max(self._format.piece, 4)
        width = min(blocks(channels, piece), 32)
        grid = (slabs.number * slabs.images, blocks(channels, piece * width))
        sizes = (slabs.images, slabs.rows, channels, x.split, self._padded(channels), slabs.each)
        self._launch("pack", grid, (width, _THREADS // width), (*x, packed, partial, *sizes))

    def _launch(self, name: str, grid: Dim3, block: Dim3, args: Sequence[Argument]) -> None:
        function = self._runtime.function("operands.cu", name, self._defines)
        self._runtime.launch(function, grid, block, args)


@final
class PreparedWeight:
    """A weight (kh, kw, C_in, C_out), and its operands, made when first asked for and kept.

    ``for_norm`` says that a norm alone will read what is convolved with it.

    Raises:
        ValueError: it has gaps, and so could only be copied, once.
    """

    def __init__(self, values: Array, operands: Operands, *, for_norm: bool = False) -> None:
        if not values.flags.c_contiguous:
            raise ValueError(f"a weight must have no gaps: got strides {values.strides}")
        self.values, self.for_norm, self._operands = values, for_norm, operands
        self.kernel: tuple[int, int] = values.shape[:2]
        self._plain: Weights | None = None
        self._folded: Weights | None = None

    @property
    def plain(self) -> Weights:
        """For a convolution."""
        self._plain = self._plain or self._operands.weights(self.values)
        return self._plain

    @property
    def folded(self) -> Weights:
        """For doubling and convolution in one."""
        self._folded = self._folded or self._operands.doubling_weights(self.values)
        return self._folded

    @property
    def made(self) -> tuple[Weights | None, Weights | None]:
        """Plain and folded, as far as they were asked for."""
        return self._plain, self._folded
