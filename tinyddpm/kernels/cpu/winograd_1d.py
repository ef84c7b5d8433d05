"""3×3 convolution, stride 1, same size, by Winograd's F(m, 3) along one axis of the image alone:
twin of ``ops.conv2d`` for few channels.

The rows of x are cut into tiles of m + 2, which overlap by two; each gives m rows of y. Down the
m + 2 pixels d of a column of a tile, with the matrices A, B and G of ``tiling.four_or_seven``,

    v = Bᵀ d        u = G w        z[j] = Σ_b v[j + b − 1] u[b]        y = Aᵀ z + bias

where j is the column of the image and b that of the taps; each row of z is a sum over that row of v
alone. These are at most half the multiplications of the definition, and up to twice those of both
axes (``winograd``), but nothing is moved pixel by pixel: Bᵀ and Aᵀ multiply whole rows of the image
where they lie, and so do the products with v. Its m + 2 rows go to as many lines: line k holds row
k of all tiles of all images, with a zero after each. The three pixels that a z needs are neighbours
there, 3 C_in numbers, and those of every third z do not overlap: they are the rows of a matrix.

    a line of v       0 a b c d e f g h 0 i j k …
    for z 0, 3, 6 …   [0 a b][c d e][f g h] …
    for z 1, 4, 7 …     [a b c][d e f][g h 0] …
    for z 2, 5, 8 …       [b c d][e f g][h 0 i] …            the z of a zero is not used

Backward, dx is the convolution of dy with the taps in reverse. The v of dy then serves the weight
too, with x and dy in exchanged roles as in ``im2col_same_backward``:

    dweight_reversed[b] = Gᵀ Σ_j v[j + b − 1]ᵀ dz[j]        dz = A x

Rounding: in float32, at 32 channels, y, dx and dw are off by at most 4e-6 of their largest value by
F(4, 3), and by 1e-5 by F(7, 3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.im2col import reversed_taps
from tinyddpm.kernels.cpu.sums import pixel_sums
from tinyddpm.kernels.cpu.tiling import Tiling
from tinyddpm.kernels.cpu.winograd import SMALL_PRODUCT


class Layout(NamedTuple):
    """How P lines of pixels hold the transformed tiles of N images, and how they are cut into
    matrices. A block is 3·M neighbouring pixels; its three matrices, of M rows each, begin at its
    first, second and third pixel. There are enough blocks for the products to be small ones.
    """

    tiling: Tiling
    images: int
    tiles: int  # in a column of the image
    width: int  # of the image
    blocks: int
    rows: int  # M, of a matrix

    def empty(self, channels: int, dtype: np.dtype[np.floating]) -> Array:
        """Lines (P, 1 + 3·M·blocks + 1, C), not yet set."""
        return np.empty((self.tiling.points, 3 * self.rows * self.blocks + 2, channels), dtype)

    def tile_rows(self, lines: Array) -> Array:
        """The tiles' rows, each with the zero that follows: a view (N, tiles, P, (W + 1)·C)."""
        pixels = self.images * self.tiles * (self.width + 1)
        rows = lines[:, 1 : 1 + pixels].reshape(len(lines), self.images, self.tiles, -1)
        return rows.transpose(1, 2, 0, 3)

    def pixels(self, lines: Array) -> Array:
        """The pixels, by matrix: a view (P, blocks, 3, M, C)."""
        return self._matrices(lines, 1, 1)

    def neighbours(self, lines: Array) -> Array:
        """The same pixels, each between its neighbours: a view (P, blocks, 3, M, 3C)."""
        return self._matrices(lines, 0, 3)

    def _matrices(self, lines: Array, first: int, count: int) -> Array:
        line, pixel, item = lines.strides
        shape = (len(lines), self.blocks, 3, self.rows, count * lines.shape[2])
        strides = (line, 3 * self.rows * pixel, pixel, 3 * pixel, item)
        return np.ndarray(shape, lines.dtype, lines, first * pixel, strides)  # checks its bounds


def transform_weight_1d(weight: Array, tiling: Tiling) -> Array:
    """Return u = G w (P, 3·C_in, C_out) of ``weight`` (3, 3, C_in, C_out)."""
    _, _, c_in, c_out = weight.shape
    u = tiling.g.astype(weight.dtype) @ weight.reshape(3, -1)
    return u.reshape(tiling.points, 3 * c_in, c_out)


def winograd_1d(x: Array, u: Array, bias: Array, tiling: Tiling) -> Array:
    """Convolve ``x`` (N, H, W, C_in) with the weight whose transform is ``u``."""
    layout = layout_of(x, u.shape[2], tiling)
    return _convolved(_transformed(x, layout), u, bias, layout, x.shape[1])


def winograd_1d_backward(
    dy: Array, x: Array, u_reversed: Array, tiling: Tiling
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C_out); dbias by image.

    ``u_reversed`` is the transform of the kernel of the transpose, as ``reversed_taps`` gives it.
    """
    c_in, c_out = x.shape[3], dy.shape[3]
    layout = layout_of(dy, c_in, tiling)
    v = _transformed(dy, layout)
    dx = _convolved(v, u_reversed, None, layout, dy.shape[1])
    dz = _lines(tiling.at.T, x, 0, layout)
    du = layout.neighbours(v).swapaxes(3, 4) @ layout.pixels(dz)
    dreversed = tiling.g.T.astype(du.dtype) @ du.sum(axis=(1, 2)).reshape(tiling.points, -1)
    dweight = reversed_taps(dreversed.reshape(3, 3, c_out, c_in))
    return dx, dweight, pixel_sums(dy)


def layout_of(x: Array, c_out: int, tiling: Tiling) -> Layout:
    """Return the layout for ``x`` (N, H, W, C_in) and an output of ``c_out`` channels."""
    n, height, width, c_in = x.shape
    tiles = tiling.tiles(height)
    rows = -(-n * tiles * (width + 1) // 3)
    most = max(1, SMALL_PRODUCT // (3 * c_in * c_out))
    blocks = -(-rows // most)
    return Layout(tiling, n, tiles, width, blocks, -(-rows // blocks))


def _transformed(x: Array, layout: Layout) -> Array:
    """Lines with v = Bᵀ d, where d begins one row above the rows of y that it gives."""
    return _lines(layout.tiling.bt, x, 1, layout)


def _convolved(v: Array, u: Array, bias: Array | None, layout: Layout, height: int) -> Array:
    c_out = u.shape[2]
    z = layout.empty(c_out, v.dtype)
    np.matmul(layout.neighbours(v), u[:, None, None], out=layout.pixels(z))
    rows = layout.tile_rows(z)
    if bias is not None:  # the second column of Aᵀ is (1, …, 1)
        rows[:, :, 1] += np.tile(bias.reshape(-1, 1, c_out), layout.width + 1)
    y = layout.tiling.at @ rows[..., : layout.width * c_out]  # (N, tiles, m, W·C_out)
    y = y.reshape(layout.images, -1, layout.width, c_out)
    return np.ascontiguousarray(y[:, :height])


def _lines(matrix: Array, x: Array, above: int, layout: Layout) -> Array:
    """``matrix`` times the rows of ``x`` under each tile, the first ``above`` rows higher than the
    tile's first row of y; there is zero outside the image.
    """
    n, height, width, channels = x.shape
    step, size = layout.tiling.step, matrix.shape[1]
    padded = np.empty((n, step * layout.tiles + size - step, width + 1, channels), x.dtype)
    padded[:, :above] = 0
    padded[:, above + height :] = 0
    padded[:, :, width] = 0
    padded[:, above : above + height, :width] = x
    image, row, _, item = padded.strides
    shape = (n, layout.tiles, size, (width + 1) * channels)
    tiles = np.ndarray(shape, x.dtype, padded, strides=(image, step * row, row, item))
    lines = layout.empty(channels, x.dtype)
    rows = layout.tile_rows(lines)
    np.matmul(matrix, tiles, out=rows)
    lines[:, 0] = 0
    lines[:, 1 + rows.size // (len(lines) * channels) :] = 0
    return lines
