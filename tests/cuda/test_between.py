"""What a convolution leaves to a norm is its plain result, rounded where it may be; and what the
norm gives back for it is the plain gradient, rounded, with its sums.
"""

import numpy as np
import pytest
from conv_twins import normals, placed
from test_conv_operands import decoded

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda import group_norm
from tinyddpm.kernels.cuda.between import FromNorm, ToNorm
from tinyddpm.kernels.cuda.conv2d import Convolutions
from tinyddpm.kernels.cuda.group_norm import GroupNorm
from tinyddpm.kernels.cuda.operands import Operands
from tinyddpm.kernels.cuda.partial_sums import AtTheEnd

pytestmark = pytest.mark.cuda_sim
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
CHANNELS = pytest.mark.parametrize("channels", [24, 13])  # the latter are padded in an operand
SLABS = pytest.mark.parametrize("slab", [700, 8192])  # some slabs an image, or one
N, SIDES = 3, (13, 9)


def rounded(device, x, precision="bf16"):
    """What a kernel may write of ``x`` (…, C) for a product, as it is written: where channels are
    padded, float32.
    """
    operand = Operands(device, precision).image(x).values
    return operand if operand.shape == x.shape else x


def maps(device, *widths):
    """An image of each width, in float32."""
    shapes = [(N, *SIDES, width) for width in widths]
    return [placed(device, normals(seed, *shape)) for seed, shape in enumerate(shapes)]


def assert_same(mine, expected):
    assert mine.dtype == expected.dtype
    np.testing.assert_array_equal(to_host(mine), to_host(expected))


@PRECISIONS
@CHANNELS
def test_a_convolution_writes_bf16_for_a_norm_in_bf16(device, precision, channels):
    convolutions, (x,) = Convolutions(device, precision), maps(device, 8)
    weight, biases = (placed(device, normals(5, *s)) for s in ((3, 3, 8, channels), (N, channels)))
    plain, _ = convolutions.forward(x, convolutions.prepare(weight), biases)
    left, _ = convolutions.forward(x, convolutions.prepare_for_norm(weight), biases)
    assert type(left) is ToNorm
    assert_same(left.values, rounded(device, plain) if precision == "bf16" else plain)


@PRECISIONS
@CHANNELS
def test_the_gradient_of_what_a_norm_wrote_is_bf16_in_bf16(device, precision, channels):
    convolutions, (x, dy) = Convolutions(device, precision), maps(device, channels, 16)
    weight, bias = (placed(device, normals(5, *s)) for s in ((3, 3, channels, 16), (16,)))
    weight = convolutions.prepare(weight)
    plain, *others = convolutions.backward(dy, convolutions.forward(x, weight, bias)[1])
    _, saved = convolutions.forward(rounded(device, x, precision), weight, bias)
    dx, *gradients = convolutions.backward(dy, saved)
    assert_same(dx, rounded(device, plain) if precision == "bf16" else plain)
    for mine, expected in zip(gradients, others, strict=True):
        assert_same(mine, expected)


@PRECISIONS
@CHANNELS
@SLABS
@pytest.mark.parametrize("of_each_image", [False, True])
def test_a_norm_reads_it_and_gives_back_an_operand_with_its_sums(
    device, precision, channels, slab, of_each_image
):
    """The same values, read as float32, give the same results."""
    norm = GroupNorm(device, silu=True, precision=precision)
    x, dy, dskip = maps(device, channels, channels, channels)
    affine = (N, channels) if of_each_image else (channels,)
    weight, bias = (placed(device, normals(seed, *affine)) for seed in (3, 4))
    if precision == "bf16":
        x, dy = (rounded(device, array) for array in (x, dy))
    plain = [placed(device, decoded(to_host(array))) for array in (x, dy)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "_SLAB", slab)
        y, saved = norm.forward(ToNorm(x), weight, bias, groups=1)
        dx, *gradients = norm.backward(dy, saved, dskip)
        expected_y, saved = norm.forward(plain[0], weight, bias, groups=1)
        expected, *others = norm.backward(plain[1], saved, dskip)
    assert_same(y, expected_y)
    assert type(dx) is FromNorm
    assert_same(dx.values, rounded(device, expected, precision))
    for mine, other in zip(gradients, others, strict=True):
        assert_same(mine, other)
    sums = to_host(dx.sums).sum(axis=0)
    assert dx.sums.shape[1:] == sums.shape == (N, channels)
    exact = to_host(expected).sum(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(sums, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1040, 258])
def test_the_sums_are_of_more_channels_than_threads(device, channels):
    norm, shape = GroupNorm(device, silu=True), (2, 2, 3, channels)
    x, dy = (placed(device, normals(seed, *shape)) for seed in (0, 1))
    weight, bias = (placed(device, normals(seed, channels)) for seed in (2, 3))
    _, saved = norm.forward(ToNorm(x), weight, bias, groups=2)
    (dx, sums), *_ = norm.backward(dy, saved)
    exact = to_host(dx).sum(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(to_host(sums).sum(axis=0), exact, rtol=0, atol=1e-5)


@PRECISIONS
@CHANNELS
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("slabs", [1, 3])
def test_a_convolution_takes_it_back(device, precision, channels, biases, slabs):
    convolutions = Convolutions(device, precision, AtTheEnd(device))
    x, dy = maps(device, 8, channels)
    weight = convolutions.prepare(placed(device, normals(5, 3, 3, 8, channels)))
    bias = placed(device, normals(6, *((N, channels) if biases else (channels,))))
    _, saved = convolutions.forward(x, weight, bias)
    sums = placed(device, normals(7, slabs, N, channels))
    back = FromNorm(rounded(device, dy, precision), sums)
    dx, dweight, dbias = convolutions.backward(back, saved)
    expected = convolutions.backward(dy, saved)
    device.meet()
    assert_same(dx, expected[0])
    assert_same(dweight.parts, expected[1].parts)
    mine = to_host(dbias) if biases else to_host(dbias.parts).sum(axis=0)
    exact = to_host(sums).sum(axis=0 if biases else (0, 1), dtype=float)
    np.testing.assert_allclose(mine, exact, rtol=0, atol=1e-5)


@PRECISIONS
@CHANNELS
def test_a_gradient_may_be_prepared_for_several_convolutions(device, precision, channels):
    convolutions, (x, dy) = Convolutions(device, precision), maps(device, 8, channels)
    prepared, bias = convolutions.prepare_gradient(dy), placed(device, normals(6, channels))
    for size, pad in ((3, (1, 1)), (1, (0, 0))):
        weight = convolutions.prepare(placed(device, normals(5, size, size, 8, channels)))
        _, saved = convolutions.forward(x, weight, bias, pad=pad)
        mine, expected = (convolutions.backward(form, saved) for form in (prepared, dy))
        for gradient, exact in zip(mine, expected, strict=True):
            assert_same(gradient, exact)
