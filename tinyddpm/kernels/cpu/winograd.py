"""3×3 convolution, stride 1, same size, by Winograd's F(4×4, 3×3) (Lavin & Gray 2016, arXiv
1509.09308, section 4.3): twin of ``ops.conv2d``, and of ``ops.upsample_conv2d``.

The image is cut into tiles d of 6×6 pixels, one every 4 pixels, so that neighbours overlap by two;
each gives 4×4 pixels of y from 36 products where the definition takes 144. Per tile and channel,
with the matrices of ``tiling.four``,

    v  = Bᵀ d B        u  = G w Gᵀ        m  = Σ_{C_in} v u        y  = Aᵀ m A + bias

and backward, each line being linear, the transpose of these, upwards:

    dm = A dy Aᵀ       du = Σ_tiles v dm  dv = Σ_{C_out} dm u      dd = B dv Bᵀ
    dw = Gᵀ du G       dx += dd, where the tiles lie

The entries of a transform are the first axes, (6, 6, N, tile rows, tile columns, C). So a transform
along one axis is the product of a 6×6 matrix with a matrix of many columns, and m is 36 products
(tiles, C_in) (C_in, C_out). Only the columns of d are gathered: column j of every tile becomes an
image of its own, whose rows Bᵀ multiplies where they lie. Images whose sides are no multiples of 4
are filled up with zeros, and the result is cropped.

If the image was doubled, a tile has 4×4 pixels of x, and there is one every 2 pixels
(``tiling.doubled``): it takes 25 products, and the doubled image is never made.

The second column of Aᵀ is (1, 1, 1, 1), so what is added to m[1, 1] is added to every pixel. The
bias is added there.

Rounding: large numbers are subtracted from one another. At 256 channels y, dx and dw are off by at
most 6e-6 of their largest value in float32 (2e-5 if the image was doubled; direct summation: 1e-6),
and by 1e-13 in float64. With fewer channels it is less.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import row_sums
from tinyddpm.kernels.cpu.tiling import Tiling

# For products of at most so many multiplications OpenBLAS has kernels, on AVX-512, that do not pack
# the matrices first. With these the products with 6×6 matrices take half the time.
SMALL_PRODUCT = 10**6


def transform_weight(weight: Array, tiling: Tiling) -> Array:
    """Return u = G w Gᵀ (P·P, C_in, C_out) of ``weight`` (3, 3, C_in, C_out)."""
    u = _both_axes(tiling.g.astype(weight.dtype), weight)
    return u.reshape(-1, *weight.shape[2:])


def transform_image(x: Array, tiling: Tiling) -> Array:
    """Return v = Bᵀ d B (P·P, tiles, C) of the tiles of ``x`` (N, H, W, C) with a border of 0."""
    n, height, width, channels = x.shape
    rows, columns = tiling.tiles(height), tiling.tiles(width)
    points, step, size = tiling.points, tiling.step, tiling.step + 2
    gathered = _tile_columns(x, step, rows, columns)
    column, image, row, _, item = gathered.strides
    shape = (size, n, rows, size, columns * channels)  # a tile's rows overlap the next one's by two
    d = np.ndarray(shape, x.dtype, gathered, strides=(column, image, step * row, row, item))
    down = np.empty((points, size, n, rows, columns * channels), x.dtype)
    np.matmul(tiling.bt, d, out=down.transpose(1, 2, 3, 0, 4))
    return _second_axis(tiling.bt, down).reshape(-1, n * rows * columns, channels)


def winograd(v: Array, u: Array, bias: Array, shape: tuple[int, ...], tiling: Tiling) -> Array:
    """Convolve the image of ``shape`` (N, H, W, C_in) whose transform is ``v`` with the weight
    whose transform is ``u``.
    """
    n, height, width, _ = shape
    points = tiling.points
    m = v @ u  # (P·P, tiles, C_out)
    by_image = m[points + 1].reshape(n, -1, u.shape[2])
    by_image += bias.reshape(-1, 1, u.shape[2])
    y = _both_axes(tiling.at, m.reshape(points, points, -1))
    cells = _cells(n, tiling.pixels, tiling.tiles(height), tiling.tiles(width), u.shape[2], v.dtype)
    cells[...] = y.reshape(cells.shape)
    return _cropped(cells, tiling.side(height), tiling.side(width), border=0)


def winograd_backward(
    dy: Array, v: Array, u: Array, shape: tuple[int, ...], tiling: Tiling
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy``, the gradient of what ``winograd`` returned; dbias
    by image.
    """
    n, height, width, c_in = shape
    rows, columns = tiling.tiles(height), tiling.tiles(width)
    points = tiling.points
    dy_cells = _filled_cells(dy, tiling.pixels, rows, columns)
    dm = _both_axes(tiling.at.T, dy_cells).reshape(points * points, -1, dy.shape[3])
    dbias = row_sums(dm[points + 1].reshape(n, rows * columns, -1))
    dweight = _weight_gradient(v, dm, tiling.g.astype(dm.dtype))
    dv = dm @ u.swapaxes(1, 2)
    dd = _both_axes(tiling.bt.T, dv.reshape(points, points, n, rows, columns, c_in))
    cells = _cells(n, tiling.step, rows + 1, columns + 1, c_in, dy.dtype)
    own, *others = _overlaps(tiling.step, rows, columns)
    cells[..., rows, :, :] = 0
    cells[..., columns, :] = 0
    cells[own[1]] = dd[own[0]]
    for in_tile, in_cells in others:
        cells[in_cells] += dd[in_tile]
    return _cropped(cells, height, width, border=1), dweight, dbias


def _weight_gradient(v: Array, dm: Array, g: Array) -> Array:
    """dw = Gᵀ (Σ vᵀ dm) G, by blocks of C_in so that du, four times dw, stays in the cache."""
    c_in, c_out, points = v.shape[2], dm.shape[2], len(g)
    dweight = np.empty((3, 3, c_in, c_out), dm.dtype)
    for start in range(0, c_in, 64):
        block = slice(start, start + 64)
        du = v[:, :, block].swapaxes(1, 2) @ dm
        dweight[:, :, block] = _both_axes(g.T, du.reshape(points, points, -1, c_out))
    return dweight


def _both_axes(matrix: Array, x: Array) -> Array:
    """matrix x matrixᵀ over the two leading axes, for every element of the others."""
    after, before = matrix.shape
    blocks = _blocks(x.shape[2:])
    rows = x.reshape(before, before, *blocks).transpose(1, 2, 0, 3)
    first = np.empty((after, before, *blocks), x.dtype)
    np.matmul(matrix, rows, out=first.transpose(1, 2, 0, 3))
    return _second_axis(matrix, first.reshape(after, before, *x.shape[2:]))


def _second_axis(matrix: Array, x: Array) -> Array:
    """x matrixᵀ over the two leading axes, for every element of the others."""
    (count, before), after = x.shape[:2], len(matrix)
    blocks = _blocks(x.shape[2:])
    result = np.empty((count, after, *blocks), x.dtype)
    np.matmul(matrix, x.reshape(count, before, *blocks).swapaxes(1, 2), out=result.swapaxes(1, 2))
    return result.reshape(count, after, *x.shape[2:])


@cache
def _blocks(shape: tuple[int, ...]) -> tuple[int, int]:
    """Into how many blocks, and of how many columns, to cut an array along the first axis of
    ``shape``, so that a product with one block is a small one if possible.
    """
    columns = math.prod(shape)
    divisors = (n for n in range(1, shape[0] + 1) if shape[0] % n == 0)
    count = next((n for n in divisors if columns <= n * SMALL_PRODUCT // 36), 1)
    return count, columns // count


def _cells(
    n: int, size: int, rows: int, columns: int, channels: int, dtype: np.dtype[Any]
) -> Array:
    """An image of square cells, not yet set, seen as (size, size, N, rows, columns, C)."""
    image = np.empty((n, rows, size, columns, size, channels), dtype)
    return image.transpose(2, 4, 0, 1, 3, 5)


def _image(cells: Array) -> Array:
    """The image (N, size·rows, size·columns, C) that ``cells`` are a view of."""
    size, _, n, rows, columns, channels = cells.shape
    return cells.transpose(2, 3, 0, 4, 1, 5).reshape(n, size * rows, size * columns, channels)


def _filled_cells(x: Array, size: int, rows: int, columns: int) -> Array:
    """Cells that hold ``x``, and zeros below and to its right."""
    n, height, width, channels = x.shape
    cells = _cells(n, size, rows, columns, channels, x.dtype)
    image = _image(cells)
    image[:, height:] = 0
    image[:, :, width:] = 0
    image[:, :height, :width] = x
    return cells


def _tile_columns(x: Array, step: int, rows: int, columns: int) -> Array:
    """Column j of every tile of ``x`` with a border of 0, as an image for each j:
    (step + 2, N, step·rows + 2, columns, C).
    """
    n, height, _, channels = x.shape
    gathered = np.zeros((step + 2, n, step * rows + 2, columns, channels), x.dtype)
    for j, image in enumerate(gathered):
        first = 1 if j == 0 else 0  # the first tile's column 0 lies in the border
        pixels = x[:, :, step * first + j - 1 :: step][:, :, : columns - first]
        image[:, 1 : height + 1, first : first + pixels.shape[2]] = pixels
    return gathered


def _cropped(cells: Array, height: int, width: int, *, border: int) -> Array:
    image = _image(cells)[:, border : border + height, border : border + width]
    return np.ascontiguousarray(image)


def _overlaps(step: int, rows: int, columns: int) -> list[tuple[Any, Any]]:
    """Where tiles and cells coincide: the first ``step`` pixels of a tile are its own cell, and the
    two that follow lie in the next cell. The own cells of both axes are the first pair.
    """
    own = slice(0, step), slice(0, step)
    following = slice(step, step + 2), slice(0, 2)
    every = slice(None)
    return [
        (
            (tile_row, tile_column),
            (cell_row, cell_column, every, slice(i, i + rows), slice(j, j + columns)),
        )
        for i, (tile_row, cell_row) in enumerate((own, following))
        for j, (tile_column, cell_column) in enumerate((own, following))
    ]
