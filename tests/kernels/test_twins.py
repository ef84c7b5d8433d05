"""Every entry of every table of kernels against the reference, over drawn shapes."""

import dataclasses
import inspect
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.arrays import cuda_obstacle, to_device, to_host, xp_of
from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.norm import MANY_CHANNELS
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import Kernels, reference
from tinyddpm.training.kernel_choice import kernels_for

TABLES = [pytest.param(cpu, "cpu", id="cpu")]  # (table, the device its arrays live on)
if not cuda_obstacle():  # without a GPU tests/cuda runs these kernels in a simulator
    cuda = kernels_for("cuda")
    TABLES.append(pytest.param(cuda, "cuda", id="cuda", marks=pytest.mark.cuda))
# Of the largest value, or of 1 where that is smaller: the inputs are of order 1.
TOLERANCES = {np.float64: 1e-12, np.float32: 2e-5}

small = st.integers(1, 5)


class Case(NamedTuple):
    shapes: list[tuple[int, ...]]
    options: dict[str, object]


@st.composite
def linears(draw):
    c_in, c_out = draw(small), draw(small)
    leading = draw(st.lists(small, min_size=1, max_size=3))
    added = draw(st.sampled_from([[], [(*leading, c_out)], [(c_out,)]]))
    return Case([(*leading, c_in), (c_in, c_out), (c_out,), *added], {})


@st.composite
def convolutions(draw):
    same = [(3, 1, (1, 1)), (3, 1, (0, 2)), (1, 1, (0, 0))]
    size, stride, pad = draw(
        st.sampled_from([*same, (3, 1, (0, 1)), (3, 2, (1, 1)), (3, 2, (0, 1))])
    )
    sides = st.integers(2, 17)
    height, width = draw(sides), draw(sides)
    # The cpu table goes along one axis up to 40, and beyond along both if there are pixels enough.
    least, most = draw(st.sampled_from([(1, 9), (10, 40), (41, 64)]))
    channels = st.integers(least, most)
    n = draw(st.integers(1, 3)) if most < 41 else 4
    c_in, c_out = draw(channels), draw(channels)
    bias = draw(st.sampled_from([(c_out,), (n, c_out)]))
    shapes = [(n, height, width, c_in), (size, size, c_in, c_out), bias]
    if draw(st.booleans()):
        sides_out = [(side + sum(pad) - size) // stride + 1 for side in (height, width)]
        shapes.append((n, *sides_out, c_out))
    return Case(shapes, {"stride": stride, "pad": pad})


@st.composite
def doublings(draw):
    channels = draw(st.sampled_from([st.integers(1, 9), st.integers(24, 64)]))
    x_shape = (draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    c_in, c_out = draw(channels), draw(channels)
    bias = draw(st.sampled_from([(c_out,), (x_shape[0], c_out)]))
    return Case([(*x_shape, c_in), (3, 3, c_in, c_out), bias], {})


@st.composite
def norms(draw):
    groups = draw(small)
    width = draw(small | st.just(-(-MANY_CHANNELS // groups)))
    channels, n = groups * width, draw(small)
    affine = draw(st.sampled_from([(channels,), (n, channels)]))
    shapes = [(n, draw(small), draw(small), channels), affine, affine]
    return Case(shapes, {"groups": groups, "norm_eps": 1e-2})


@st.composite
def attentions(draw):
    heads, order = draw(small), draw(st.sampled_from(["qkv first", "heads first"]))
    shape = (draw(small), draw(st.integers(1, 20)), 3 * heads * draw(small))
    return Case([shape], {"heads": heads, "qkv_order": order})


@st.composite
def dropouts(draw):
    shape = (draw(small), draw(small), draw(small), draw(small))
    keep = np.array(draw(st.lists(st.booleans(), min_size=7, max_size=7)))
    return Case([shape], {"keep": np.resize(keep, shape), "rate": 0.3})


@st.composite
def images(draw):
    return Case([(draw(small), draw(small), draw(small), draw(small))], {})


@st.composite
def pairs_of_images(draw):
    pixels = draw(small), draw(small), draw(small)
    return Case([(*pixels, draw(st.integers(1, 9))) for _ in range(2)], {})


CASES = {
    "linear": linears(),
    "conv2d": convolutions(),
    "upsample_conv2d": doublings(),
    "group_norm": norms(),
    "group_norm_silu": norms(),
    "concat": pairs_of_images(),
    "dropout": dropouts(),
    "silu": images(),
    "attention": attentions(),
}


def drawn(shape, seed, dtype):
    fan_in = math.prod(shape[:-1]) if len(shape) == 4 and shape[0] == shape[1] else 1
    values = np.random.default_rng(seed).standard_normal(shape) / math.sqrt(fan_in)
    values = values.astype(dtype)
    values.flags.writeable = False  # an op that writes on its input raises
    return values


def forward(table, entry, inputs, options):
    inputs = list(inputs)
    if len(inputs) == 4:
        options = options | {"residual": inputs.pop()}
    if entry == "linear" or "conv2d" in entry:
        prepare = table.prepare_linear if entry == "linear" else table.prepare_conv2d
        inputs[1] = prepare(inputs[1])
    if "keep" in options:
        options = options | {"keep": xp_of(inputs[0]).asarray(options["keep"])}
    return getattr(table, entry)(*inputs, **options)


def backward(table, entry, dy, saved):
    gradients = getattr(table, f"{entry}_backward")(dy, saved)
    return gradients if isinstance(gradients, tuple) else (gradients,)


def whole(y):
    """On the host; what ``concat`` gave may be in two parts."""
    return np.concatenate([to_host(x) for x in y], axis=-1) if isinstance(y, tuple) else to_host(y)


def test_every_entry_has_a_case():
    entries = {f.name for f in dataclasses.fields(Kernels)}
    entries -= {"name", "prepare_linear", "prepare_conv2d"}
    entries -= {"prepare_conv2d_for_norm", "prepare_gradient"}
    assert entries == set(CASES) | {f"{entry}_backward" for entry in CASES}


@pytest.mark.parametrize("entry", CASES)
def test_an_entry_is_called_like_the_op_it_is_named_after(entry):
    for name in (entry, f"{entry}_backward"):
        ours, op = (inspect.signature(getattr(table, name)) for table in (cpu, reference))
        taken = [
            [(p.name, p.kind, p.default) for p in signature.parameters.values()]
            for signature in (ours, op)
        ]
        assert taken[0] == taken[1]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("entry", CASES)
@pytest.mark.parametrize(("table", "device"), TABLES)
@given(data=st.data())
def test_entry_is_the_reference(table, device, entry, dtype, data):
    if device == "cuda" and dtype is np.float64:
        pytest.skip("the kernels of a GPU are of float32")
    case = data.draw(CASES[entry])
    inputs = [drawn(shape, seed, dtype) for seed, shape in enumerate(case.shapes)]
    exact = [x.astype(np.float64) for x in inputs]
    y_exact, saved_exact = forward(reference, entry, exact, case.options)
    dy = drawn(y_exact.shape, 9, dtype)
    expected = [y_exact, *backward(reference, entry, dy.astype(np.float64), saved_exact)]

    y, saved = forward(table, entry, [to_device(x, device) for x in inputs], case.options)
    dy = to_device(dy, device)
    results = [y, *backward(table, entry, dy, saved)]
    again = backward(table, entry, dy, saved)

    assert len(results) == len(expected)
    for result, exact_result in zip(map(whole, results), expected, strict=True):
        assert result.shape == exact_result.shape
        assert result.dtype == dtype
        tolerance = TOLERANCES[dtype] * max(1, np.abs(exact_result).max())
        np.testing.assert_allclose(result, exact_result, rtol=0, atol=tolerance)
    for first, second in zip(results[1:], again, strict=True):  # saved was only read
        np.testing.assert_array_equal(to_host(first), to_host(second))


@pytest.mark.parametrize(("table", "device"), TABLES)
@pytest.mark.parametrize("entry", ["group_norm", "group_norm_silu"])
@pytest.mark.parametrize("channels", [6, 128])
def test_dskip_is_added_to_the_gradient_of_a_norm(table, device, entry, channels):
    shapes = [(2, 5, 7, channels), (channels,), (channels,)]
    assert_dskip_is_added(table, device, entry, shapes, {"groups": 2})


@pytest.mark.parametrize(("table", "device"), TABLES)
def test_dskip_is_added_to_the_gradient_of_a_dense_layer(table, device):
    assert_dskip_is_added(table, device, "linear", [(5, 3, 6), (6, 6), (6,)], {})


def assert_dskip_is_added(table, device, entry, shapes, options):
    """``shapes`` are those of x, which is also that of y, and of the parameters."""
    inputs = [to_device(drawn(shape, i, np.float32), device) for i, shape in enumerate(shapes)]
    dy, dskip = (to_device(drawn(shapes[0], i, np.float32), device) for i in (3, 4))
    _, saved = forward(table, entry, inputs, options)
    alone = backward(table, entry, dy, saved)
    results = getattr(table, f"{entry}_backward")(dy, saved, dskip)
    for result, exact in zip(results, (alone[0] + dskip, *alone[1:]), strict=True):
        np.testing.assert_allclose(to_host(result), to_host(exact), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("table", "device"), TABLES)
@pytest.mark.parametrize("mean", [100, 3.8])  # the cpu table centres where mean² > 16 var
@pytest.mark.parametrize("entry", ["group_norm", "group_norm_silu"])
def test_norms_survive_a_mean_far_from_zero(table, device, entry, mean):
    x = mean + drawn((2, 28, 28, 16), 0, np.float64)
    inputs = [x.astype(np.float32), drawn((16,), 1, np.float32), drawn((16,), 2, np.float32)]
    options, dy = {"groups": 8}, drawn(x.shape, 3, np.float32)
    y_exact, saved_exact = forward(reference, entry, [x.astype(float) for x in inputs], options)
    expected = [y_exact, *backward(reference, entry, dy.astype(float), saved_exact)]
    y, saved = forward(table, entry, [to_device(x, device) for x in inputs], options)
    results = [y, *backward(table, entry, to_device(dy, device), saved)]
    for result, exact_result in zip(results, expected, strict=True):
        assert relative_error(to_host(result), exact_result) < 1e-5


@pytest.mark.parametrize(("table", "device"), TABLES)
def test_attention_survives_large_scores(table, device):
    qkv = 100 * drawn((1, 7, 3 * 8), 0, np.float32)
    y_exact, _ = reference.attention(qkv.astype(np.float64), heads=1)
    y, _ = table.attention(to_device(qkv, device), heads=1)
    assert relative_error(to_host(y), y_exact) < 1e-5


@pytest.mark.parametrize(("table", "device"), TABLES)
@pytest.mark.parametrize("entry", ["group_norm", "group_norm_silu"])
def test_norms_refuse_groups_that_do_not_divide(table, device, entry):
    ones = to_device(np.ones(6), device)
    with pytest.raises(ValueError, match="C=6, groups=4"):
        getattr(table, entry)(to_device(np.ones((1, 2, 2, 6)), device), ones, ones, groups=4)


@pytest.mark.parametrize(("table", "device"), TABLES)
def test_attention_refuses_heads_that_do_not_divide(table, device):
    with pytest.raises(ValueError, match="heads=4"):
        table.attention(to_device(np.ones((1, 2, 18)), device), heads=4)


@pytest.mark.parametrize(("table", "device"), TABLES)
@pytest.mark.parametrize("size", [12, 28])  # the cpu table has tiles of 4 and of 7 for these
def test_whole_network_has_the_gradient_of_the_float64_reference(table, device, size):
    sizes = {"image_size": size, "attention_at": (size // 2,)}
    config = UNetConfig(**sizes, channels=(32, 64), groups=8, heads=2)
    exact = UNet(config, dtype=np.float64)
    values = 0.1 * drawn((exact.parameters.count,), 0, np.float32) + exact.parameters.value
    values = values.astype(np.float32)
    exact = UNet(config, values=values.astype(np.float64))
    fast = UNet(config, kernels=table, values=to_device(values, device))
    x, t = drawn((5, size, size, 1), 1, np.float32), np.arange(5) * 100
    y_exact, saved_exact = exact.forward(x.astype(np.float64), t)
    dy = drawn(y_exact.shape, 2, np.float32)
    exact.backward(dy.astype(np.float64), saved_exact)
    y, saved = fast.forward(to_device(x, device), to_device(t, device))
    fast.backward(to_device(dy, device), saved)

    assert relative_error(to_host(y), y_exact) < 1e-5
    assert relative_error(to_host(fast.parameters.grad), exact.parameters.grad) < 1e-5
    for p, p_exact in zip(fast.parameters, exact.parameters, strict=True):
        assert relative_error(to_host(p.grad), p_exact.grad) < 1e-4, p.name


def relative_error(result, exact_result):
    return np.linalg.norm(result - exact_result) / np.linalg.norm(exact_result)
