"""Which shapes are refused, and what the message says."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from tinyddpm.errors import UsageError
from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.unet import UNet

GOOD = {"image_size": 16, "channels": (8, 16), "groups": 4}


def refusal(**changes):
    with pytest.raises(UsageError) as caught:
        UNetConfig(**(GOOD | changes))
    return str(caught.value)


@pytest.mark.parametrize(
    ("size", "would_do"),
    [(30, "28 or 32"), (29, "28 or 32"), (3, "4 or 8"), (1, "4 or 8"), (0, "4 or 8")],
)
def test_a_size_that_cannot_be_halved_is_refused_with_those_that_can(size, would_do):
    message = refusal(image_size=size, channels=(8, 8, 8))
    assert re.search(rf"\b{size} pixels are not divisible by 4", message)
    assert f"an image size of {would_do}, or fewer levels" in message


@pytest.mark.parametrize("size", [4, 28, 32])
def test_a_size_that_can_be_halved_is_accepted(size):
    assert UNetConfig(**(GOOD | {"image_size": size, "channels": (8, 8, 8)})).image_size == size


@pytest.mark.parametrize("divisor", [3, 16, 0, -1])
def test_groups_divide_every_width(divisor):
    assert f"groups must divide every width of (8, 16): got {divisor}" in refusal(groups=divisor)


@pytest.mark.parametrize(
    ("heads", "attention_at", "widths"),
    [(3, (), "(16,)"), (16, (16,), "(8, 16)"), (0, (), "(16,)"), (-1, (), "(16,)")],
)
def test_heads_divide_every_width_with_attention(heads, attention_at, widths):
    message = refusal(heads=heads, attention_at=attention_at)
    assert f"heads must divide every width of {widths}: got {heads}" in message


def test_heads_need_not_divide_a_width_without_attention():
    config = UNetConfig(**(GOOD | {"heads": 16}))
    assert UNet(config).parameters.count == UNet(UNetConfig(**GOOD)).parameters.count


@pytest.mark.parametrize("shift", [-1, 4])
def test_an_embedding_shift_that_leaves_no_frequency_is_refused(shift):
    assert f"got {shift} for (8, 16)" in refusal(embedding_shift=shift)
    assert "embedding_shift must be a whole number" in refusal(embedding_shift=0.5)


def test_an_embedding_shift_that_leaves_one_frequency_is_accepted():
    assert UNetConfig(**(GOOD | {"embedding_shift": 3})).embedding_shift == 3


def test_a_first_width_without_room_for_as_many_sines_as_cosines_is_refused():
    message = refusal(channels=(9, 16), groups=1)
    assert "the first width must be even, for sin and cos: got (9, 16)" in message
    assert UNetConfig(**(GOOD | {"channels": (8, 9), "groups": 1})).channels == (8, 9)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_scale_that_is_no_scale_is_refused(scale):
    assert f"time_scale must be positive: got {scale}" in refusal(time_scale=scale)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_a_dropout_that_is_no_rate_is_refused(dropout):
    assert f"dropout must lie in [0, 1): got {dropout}" in refusal(dropout=dropout)


@pytest.mark.parametrize("name", ["blocks", "in_channels", "out_channels"])
def test_there_is_at_least_one_of_each(name):
    assert "at least 1" in refusal(**{name: 0})


@pytest.mark.parametrize("channels", [(), (8, 0), (-8,)])
def test_widths_are_positive_and_there_is_a_level(channels):
    assert "one positive width per level" in refusal(channels=channels)


@pytest.mark.parametrize(
    ("name", "value"),
    [("channels", [8, 16]), ("channels", 8), ("attention_at", 8), ("attention_at", [8])],
)
def test_what_should_be_a_tuple_is_asked_for_as_one(name, value):
    message = refusal(**{name: value})
    assert f"{name} must be a tuple: got {value!r}" in message
    assert "(14,) for one" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", (16, 16)),
        ("image_size", 16.0),
        ("image_size", "16"),
        ("channels", (8.0, 16)),
        ("groups", 4.0),
        ("blocks", 1.5),
    ],
)
def test_sizes_and_counts_are_whole_numbers(name, value):
    message = refusal(**{name: value})
    assert re.search(f"{name} must be (a whole number|whole numbers): got", message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", np.int8(16)),
        ("channels", (np.int8(64), np.int8(64))),  # 64 · 64 is no int8
        ("groups", np.int64(4)),
        ("norm_eps", np.float64(1e-5)),
        ("time_scale", np.float64(0.25)),
        ("dropout", np.float64(0.1)),
        ("embedding_shift", np.int64(1)),
        ("zero_init", np.False_),
    ],
    ids=str,
)
def test_numbers_of_numpy_are_as_good_as_pythons(name, value):
    """Left as they are, float64 and int64 widen float32 arrays, and no JSON is made of them."""
    plain = tuple(map(int, value)) if name == "channels" else value.item()
    config, same = (UNetConfig(**(GOOD | {name: number})) for number in (value, plain))
    assert config == same
    assert json.dumps(asdict(config)) == json.dumps(asdict(same))
    x, t = np.ones((1, 16, 16, 1), np.float32), np.array([3])
    masks = DropoutMasks(0, 1, np.array([0]))
    y, expected = (UNet(c).forward(x, t, masks=masks)[0] for c in (config, same))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


def test_a_norm_eps_that_is_no_number_is_refused():
    assert "norm_eps must be positive: got nan" in refusal(norm_eps=float("nan"))


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="unknown preset 'cifar'") as caught:
        UNetConfig.preset("cifar")
    assert all(name in caught.value.remedy for name in PRESETS)


@pytest.mark.parametrize(
    "change",
    [
        {"attention_at": (16,)},
        {"qkv_order": "qkv-first"},
        {"conditioning": "addd"},
        {"embedding_order": "cos sin"},
        {"down_pad": (0, 0)},
        {"norm_eps": 0.0},
        {"channels": [16, 32]},
        {"channels": (), "attention_at": ()},
    ],
    ids=str,
)
def test_impossible_switches_are_refused(change):
    with pytest.raises(UsageError):
        replace(UNetConfig.preset("mnist"), **change)
