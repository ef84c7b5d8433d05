"""3×3 convolution, stride 1, same size, by Winograd's F(4×4, 3×3) (Lavin & Gray 2016, arXiv
1509.09308, section 4.3): twin of ``ops.conv2d``.

The image is cut into tiles d of 6×6 pixels, one every 4 pixels, so that neighbours overlap by two;
each gives 4×4 pixels of y from 36 products where the definition takes 144. Per tile and channel

    v  = Bᵀ d B        u  = G w Gᵀ        m  = Σ_{C_in} v u        y  = Aᵀ m A + bias

and backward, each line being linear, the transpose of these, upwards:

    dm = A dy Aᵀ       du = Σ_tiles v dm  dv = Σ_{C_out} dm u      dd = B dv Bᵀ
    dw = Gᵀ du G       dx += dd, where the tiles lie

The 36 entries of a tile come first, (6, 6, N, tile rows, tile columns, C), so that Bᵀ · B is two
long products with a 6×6 matrix, and m is 36 products (tiles, C_in) (C_in, C_out). Images whose
sides are no multiples of 4 are filled up with zeros and cropped.

The second column of Aᵀ is (1, 1, 1, 1): what is added to m[1, 1] is added to every pixel. That is
where the bias goes.

Rounding: the entries of A and B reach 8 and 5, so that large numbers are subtracted. In float32, at
256 channels, y, dx and dw are off by at most 2e-5 of their largest value (by summing directly, by
1e-6), in float64 by 1e-13; with fewer channels by less.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import row_sums


class Transforms(NamedTuple):
    """The matrices of F(4, 3), from interpolation at the points 0, ±1, ±2 and ∞."""

    at: Array  # (4, 6)
    bt: Array  # (6, 6)
    g: Array  # (6, 3)


@cache
def transforms(dtype: np.dtype[Any]) -> Transforms:
    """Return the matrices in ``dtype``."""
    at = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    bt = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    g = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
    return Transforms(np.array(at, dtype), np.array(bt, dtype), np.array(g, dtype) / dtype.type(24))


def tile_count(pixels: int) -> int:
    """The number of tiles along a side of ``pixels``."""
    return -(-pixels // 4)


def transform_weight(weight: Array) -> Array:
    """Return u = G w Gᵀ (6, 6, C_in, C_out) of ``weight`` (3, 3, C_in, C_out)."""
    return _both_axes(transforms(weight.dtype).g, weight)


def winograd(x: Array, u: Array, bias: Array) -> Array:
    """Convolve ``x`` (N, H, W, C_in) with the weight that was transformed to ``u``."""
    n, height, width, _ = x.shape
    m = _transformed_tiles(x) @ u.reshape(36, *u.shape[2:])  # (36, tiles, C_out)
    m[7] += bias
    y = _both_axes(transforms(x.dtype).at, m.reshape(6, 6, -1))
    cells = _cells(n, *_tile_counts(x), u.shape[3], x.dtype)
    cells[...] = y.reshape(cells.shape)
    return _cropped(cells, height, width, 0)


def winograd_backward(dy: Array, x: Array, u: Array) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C_out)."""
    at, bt, _ = transforms(x.dtype)
    n, height, width, c_in = x.shape
    rows, columns = _tile_counts(x)
    points = u.reshape(36, *u.shape[2:])
    dm = _both_axes(at.T, _filled_cells(dy, rows, columns, 0)).reshape(36, -1, dy.shape[3])
    dbias = row_sums(dm[7])
    dweight = _weight_gradient(_transformed_tiles(x), dm)
    dv = dm @ points.swapaxes(1, 2)
    dd = _both_axes(bt.T, dv.reshape(6, 6, n, rows, columns, c_in))
    cells = _cells(n, rows + 1, columns + 1, c_in, x.dtype)
    cells[...] = 0
    for in_tile, in_cells in _overlaps(rows, columns):
        cells[in_cells] += dd[in_tile]
    return _cropped(cells, height, width, 1), dweight, dbias


def _transformed_tiles(x: Array) -> Array:
    """v = Bᵀ d B, (36, tiles, C), of the tiles of ``x`` with a border of one zero."""
    rows, columns = _tile_counts(x)
    cells = _filled_cells(x, rows + 1, columns + 1, 1)
    d = np.empty((6, 6, len(x), rows, columns, x.shape[3]), x.dtype)
    for in_tile, in_cells in _overlaps(rows, columns):
        d[in_tile] = cells[in_cells]
    return _both_axes(transforms(x.dtype).bt, d).reshape(36, -1, x.shape[3])


def _weight_gradient(v: Array, dm: Array) -> Array:
    """dw = Gᵀ (Σ vᵀ dm) G, by blocks of C_in so that du, four times dw, stays in the cache."""
    _, _, g = transforms(dm.dtype)
    c_in, c_out = v.shape[2], dm.shape[2]
    dweight = np.empty((3, 3, c_in, c_out), dm.dtype)
    for start in range(0, c_in, 64):
        block = slice(start, start + 64)
        du = v[:, :, block].swapaxes(1, 2) @ dm
        dweight[:, :, block] = _both_axes(g.T, du.reshape(6, 6, -1, c_out))
    return dweight


def _both_axes(matrix: Array, x: Array) -> Array:
    """matrix x matrixᵀ over the two leading axes, for every element of the others."""
    after, before = matrix.shape
    first = (matrix @ x.reshape(before, -1)).reshape(after, before, -1)
    both: Array = (matrix @ first).reshape(after, after, *x.shape[2:])
    return both


def _tile_counts(x: Array) -> tuple[int, int]:
    return tile_count(x.shape[1]), tile_count(x.shape[2])


def _cells(n: int, rows: int, columns: int, channels: int, dtype: np.dtype[Any]) -> Array:
    """An image of 4×4 cells, not yet set, seen as (4, 4, N, rows, columns, C)."""
    return np.empty((n, rows, 4, columns, 4, channels), dtype).transpose(2, 4, 0, 1, 3, 5)


def _image(cells: Array) -> Array:
    """The image (N, 4 rows, 4 columns, C) that ``cells`` are a view of."""
    _, _, n, rows, columns, channels = cells.shape
    return cells.transpose(2, 3, 0, 4, 1, 5).reshape(n, 4 * rows, 4 * columns, channels)


def _filled_cells(x: Array, rows: int, columns: int, border: int) -> Array:
    """Cells that hold ``x`` from pixel (border, border) on, and zeros elsewhere."""
    n, height, width, channels = x.shape
    cells = _cells(n, rows, columns, channels, x.dtype)
    image = _image(cells)
    image[:, :border] = 0
    image[:, :, :border] = 0
    image[:, border + height :] = 0
    image[:, :, border + width :] = 0
    image[:, border : border + height, border : border + width] = x
    return cells


def _cropped(cells: Array, height: int, width: int, border: int) -> Array:
    image = _image(cells)[:, border : border + height, border : border + width]
    return np.ascontiguousarray(image)


def _overlaps(rows: int, columns: int) -> Iterator[tuple[Any, Any]]:
    """Where tiles and cells coincide: pixels 0–3 of a tile are its own cell, 4–5 the next one."""
    own, following = slice(0, 4), slice(4, 6)
    for tile_row, cell_row, row in (
        (own, own, slice(0, rows)),
        (following, slice(0, 2), slice(1, rows + 1)),
    ):
        for tile_column, cell_column, column in (
            (own, own, slice(0, columns)),
            (following, slice(0, 2), slice(1, columns + 1)),
        ):
            every = slice(None)
            yield (tile_row, tile_column), (cell_row, cell_column, every, row, column)
