"""What a run can be, and what a preset makes of a data set."""

import math
from dataclasses import replace

import pytest

from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.nn.config import PRESETS
from tinyddpm.training.config import RunConfig, fit_to, recipe

DIGITS = (10, 28, 28, 1)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["glyphs", "mnist", "fashion-mnist"])
def test_digits_are_never_mirrored(preset, data):
    assert not recipe(preset, data).flips


@pytest.mark.parametrize("preset", ["cifar10", "cifar10-improved"])
def test_natural_images_are(preset):
    assert recipe(preset, "cifar10").flips


def test_the_improved_network_sees_times_up_to_1000_whatever_the_chain():
    config = recipe("cifar10-improved", "cifar10")
    assert config.network.time_scale == 0.25
    shorter = replace(config, diffusion=replace(config.diffusion, T=500))
    assert fit_to(shorter, (10, 32, 32, 3)).network.time_scale == 2.0
    assert fit_to(recipe("mnist", "mnist"), DIGITS).network.time_scale == 1.0


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fits_images_of_its_own_size(preset):
    config = recipe(preset, "any")
    n = config.network
    assert fit_to(config, (1, n.image_size, n.image_size, n.in_channels)).network == n


def test_attention_stays_at_its_level():
    assert fit_to(recipe("mnist", "any"), (1, 32, 32, 3)).network.attention_at == (8,)
    with pytest.raises(UsageError, match="square"):
        fit_to(recipe("mnist", "any"), (1, 28, 32, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"grad_clip": 0.0},
        {"warmup": -1},
        {"ema_decay": 1.0},
        {"label_dropout": 1.5},
        {"seed": 2**32},
        {"batch": 0},
        {"class_names": ("a", "b")},
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(change):
    with pytest.raises(UsageError):
        replace(recipe("mnist", "mnist"), **change)


def test_a_config_survives_json_and_older_versions():
    config = fit_to(recipe("mnist", "mnist"), DIGITS, tuple("0123456789"))
    plain = config.to_json()
    assert RunConfig.from_json(plain) == config
    older = recipe("mnist", "mnist").to_json()
    del older["class_names"], older["network"]["classes"], older["label_dropout"]
    assert RunConfig.from_json(older) == recipe("mnist", "mnist")


@pytest.mark.parametrize("key", ["lr", "network"])
def test_what_is_no_config_is_refused_with_the_reason(key):
    plain = recipe("mnist", "mnist").to_json()
    del plain[key]
    with pytest.raises(CheckpointError) as refusal:
        RunConfig.from_json(plain)
    assert key in refusal.value.cause
