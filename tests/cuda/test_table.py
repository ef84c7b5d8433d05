"""The ``cuda`` table in the simulator: every entry is the reference, and so are whole networks."""

import dataclasses
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyddpm.kernels.cuda.joined import Parts
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import Kernels, reference

pytestmark = pytest.mark.cuda_sim

# Of the whole gradient. Two factors rounded to 11 or 8 bits leave errors of about 2^-12 and 2^-9 a
# product, which grow over the depth of the network.
TOLERANCES = {"fp32": 1e-5, "tf32": 3e-3, "bf16": 3e-2}
NETWORKS = {
    "mnist": {"attention_at": (4,)},
    "mnist-1.7m": {"attention_at": (8, 4), "heads": 4, "blocks": 2, "zero_init": False},
    "cifar10": {
        "in_channels": 3,
        "out_channels": 3,
        "norm_eps": 1e-6,
        "embedding_order": "sin|cos",
        "embedding_shift": 1,
        "down_pad": (0, 1),
    },
    "cifar10-improved": {
        "in_channels": 3,
        "out_channels": 6,
        "attention_at": (8,),
        "heads": 2,
        "qkv_order": "heads first",
        "conditioning": "scale-shift",
    },
}


def load_tests_of_all_tables():
    """The module of the tests that hold every table."""
    path = Path(__file__).parents[1] / "kernels" / "test_twins.py"
    spec = importlib.util.spec_from_file_location("tests_of_all_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = load_tests_of_all_tables()


@pytest.mark.parametrize("entry", TABLES.CASES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_entry_is_the_reference(sim, entry, data):
    same_test = TABLES.test_entry_is_the_reference.hypothesis.inner_test
    same_test(cuda_table(sim), "cpu", entry, np.float32, data)


def test_dskip_is_added_to_a_gradient(sim):
    for entry in ("group_norm", "group_norm_silu"):
        for channels in (6, 128):
            same_test = TABLES.test_dskip_is_added_to_the_gradient_of_a_norm
            same_test(cuda_table(sim), "cpu", entry, channels)
    TABLES.test_dskip_is_added_to_the_gradient_of_a_dense_layer(cuda_table(sim), "cpu")


def test_large_means_and_scores_are_survived(sim):
    table = cuda_table(sim)
    for entry in ("group_norm", "group_norm_silu"):
        for mean in (100, 3.8):
            TABLES.test_norms_survive_a_mean_far_from_zero(table, "cpu", entry, mean)
    TABLES.test_attention_survives_large_scores(table, "cpu")


def network_like(preset, kernels, dtype):
    """Narrow, with the switches of a preset and nothing zero."""
    config = UNetConfig(image_size=8, channels=(8, 12), groups=4, **NETWORKS[preset])
    network = UNet(config, kernels=kernels, dtype=dtype)
    random = np.random.default_rng(0)
    for parameter in network.parameters:
        fan_in = max(1, np.prod(parameter.shape[:-1]))
        parameter.value[...] = random.standard_normal(parameter.shape) * fan_in**-0.5
    return network


def run(network, dtype):
    random = np.random.default_rng(1)
    config = network.config
    x = random.standard_normal((2, 8, 8, config.in_channels)).astype(dtype)
    dy = random.standard_normal((2, 8, 8, config.out_channels)).astype(dtype)
    y, saved = network.forward(x, np.array([3, 700]))
    return y, network.backward(dy, saved), network.parameters.grad


def relative_error(result, exact):
    return np.linalg.norm(result - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("preset", NETWORKS)
def test_network_has_the_gradient_of_the_reference(sim, preset, precision):
    fast = network_like(preset, cuda_table(sim, precision), np.float32)
    exact = network_like(preset, reference, np.float64)
    results, expected = run(fast, np.float32), run(exact, np.float64)
    errors = [relative_error(a, b) for a, b in zip(results, expected, strict=True)]
    assert max(errors) < TOLERANCES[precision], errors
    assert precision == "fp32" or min(errors) > 1e-5  # the precision asked for is in use
    for a, b in zip(fast.parameters, exact.parameters, strict=True):
        assert relative_error(a.grad, b.grad) < 10 * TOLERANCES[precision], a.name


@pytest.mark.parametrize("preset", ["cifar10", "cifar10-improved"])
def test_what_lies_between_products_and_norms_is_bf16_in_bf16(sim, preset):
    """Every block has such a convolution, and every norm but that before attention such a dy."""
    table, seen = cuda_table(sim, "bf16"), Counter()

    def forward(x, *args, **options):
        seen[type(x).__name__, Parts.of(x).first.dtype.name] += 1
        return table.group_norm_silu(x, *args, **options)

    def backward(dy, *args):
        seen["dy", dy.dtype.name] += 1
        return table.group_norm_silu_backward(dy, *args)

    spied = dataclasses.replace(table, group_norm_silu=forward, group_norm_silu_backward=backward)
    config = UNetConfig(image_size=8, channels=(8, 16), groups=4, blocks=1, **NETWORKS[preset])
    run(UNet(config, kernels=spied, dtype=np.float32), np.float32)
    blocks = 2 * 1 + 2 + 2 * 2  # down, in the middle, and up
    assert seen == {
        ("ToNorm", "uint16"): blocks,
        ("Joined", "float32"): 4,
        ("ndarray", "float32"): blocks - 4 + 1,
        ("dy", "uint16"): 2 * blocks + 1,
    }


def test_every_entry_is_a_kernel_of_our_own(sim):
    table = cuda_table(sim)
    for name in {field.name for field in dataclasses.fields(Kernels)} - {"name"}:
        assert getattr(table, name).__module__.startswith("tinyddpm.kernels.cuda"), name
        assert getattr(table, name) is not getattr(reference, name)
