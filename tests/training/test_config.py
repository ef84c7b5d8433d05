"""What a run can be, and what a preset makes of a data set."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.nn.config import PRESETS
from tinyddpm.training.config import DiffusionConfig, RunConfig, default_preset, fit_to, recipe

DIGITS = (10, 28, 28, 1)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["glyphs", "mnist", "fashion-mnist"])
def test_digits_are_never_mirrored(preset, data):
    assert not recipe(preset, data).flips


@pytest.mark.parametrize("preset", ["cifar10", "cifar10-improved"])
def test_natural_images_are(preset):
    assert recipe(preset, "cifar10").flips


def test_the_published_recipes_are_those_of_their_papers():
    """Ho et al. 2020, section 4 and appendix B; Nichol & Dhariwal 2021, section 3 and appendix A;
    the course trains for ten epochs of 60,000 images.
    """
    fixed, improved = recipe("cifar10", "cifar10"), recipe("cifar10-improved", "cifar10")
    assert fixed.diffusion == DiffusionConfig(schedule="linear", T=1000, variance="beta")
    assert improved.diffusion == DiffusionConfig(schedule="cosine", T=4000, variance="learned")
    assert (fixed.lr, fixed.warmup, improved.lr, improved.warmup) == (2e-4, 5000, 1e-4, 1)
    assert (fixed.train_steps, improved.train_steps) == (800_000, 500_000)
    for config in (fixed, improved):
        assert (config.batch, config.grad_clip, config.ema_decay) == (128, 1.0, 0.9999)
        assert config.decay_from == 0
    course = recipe("mnist-1.7m", "mnist")
    assert course.train_steps == 10 * math.ceil(60_000 / course.batch)


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
    ("data", "preset"),
    [("glyphs", "glyphs"), ("mnist", "mnist"), ("fashion-mnist", "mnist"), ("cifar10", "cifar10")],
)
def test_known_data_have_a_preset_by_their_name(data, preset):
    assert default_preset(data, (10, 30, 30, 7)) == preset


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", range(2, 66, 2))
def test_images_of_ones_own_get_a_small_network_that_fits(size, channels):
    shape = (10, size, size, channels)
    preset = default_preset("/home/me/mine", shape)
    assert preset == ("mnist" if size > 16 and size % 4 == 0 else "glyphs")
    network = fit_to(recipe(preset, "/home/me/mine"), shape).network
    assert (network.image_size, network.in_channels, network.out_channels) == (
        size, channels, channels
    )  # fmt: skip


def test_sizes_that_no_network_halves_get_those_that_would_do():
    shape = (10, 27, 27, 1)
    with pytest.raises(UsageError, match="27 pixels are not divisible by 2") as refusal:
        fit_to(recipe(default_preset("mine", shape), "mine"), shape)
    assert "26 or 28" in refusal.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"grad_clip": 0.0},
        {"grad_clip": math.inf},
        {"warmup": -1},
        {"decay_from": -1},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"label_dropout": 1.5},
        {"label_dropout": -0.1},
        {"seed": 2**32},
        {"seed": -1},
        {"batch": 0},
        {"train_steps": 2.5},
        {"shard": 0},
        {"train_steps": 0},
        {"class_names": ("a", "b")},
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(change):
    with pytest.raises(UsageError):
        replace(recipe("mnist", "mnist"), **change)


def test_every_class_has_a_name():
    config = fit_to(recipe("mnist", "mnist"), DIGITS, tuple("0123456789"))
    with pytest.raises(UsageError, match="a class for each"):
        replace(config, class_names=config.class_names[1:])


@pytest.mark.parametrize(
    "change", [{"label_dropout": 0.0}, {"label_dropout": 1.0}, {"seed": 2**32 - 1}], ids=str
)
def test_the_ends_of_a_range_belong_to_it(change):
    config = recipe("mnist", "mnist")
    replace(config, diffusion=replace(config.diffusion, vlb_weight=0.0), **change)


@pytest.mark.parametrize("name", ["schedule", "predict", "variance", "objective", "times"])
def test_an_unknown_choice_is_refused(name):
    """An unknown way to draw t would be the uniform one."""
    with pytest.raises(UsageError, match=f"unknown {name} 'other'"):
        DiffusionConfig(**{name: "other"})


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ({"schedule": "linear", "T": 20}, "T >= 21"),
        ({"objective": "hybrid"}, "does not go with variance 'beta_tilde'"),
        ({"objective": "simple", "variance": "learned"}, "does not go with variance 'learned'"),
    ],
    ids=str,
)
def test_a_chain_that_cannot_be_is_refused_with_its_config(chain, words):
    with pytest.raises(UsageError, match=words):
        DiffusionConfig(**chain)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1.0])
def test_a_weight_of_the_bound_that_is_none_is_refused(weight):
    with pytest.raises(UsageError, match="vlb_weight"):
        replace(recipe("mnist", "mnist").diffusion, vlb_weight=weight)


def test_a_config_survives_json_and_older_versions():
    config = fit_to(recipe("mnist", "mnist"), DIGITS, tuple("0123456789"))
    plain = config.to_json()
    assert RunConfig.from_json(plain) == config
    older = recipe("mnist", "mnist").to_json()
    del older["class_names"], older["network"]["classes"], older["label_dropout"]
    assert RunConfig.from_json(older) == recipe("mnist", "mnist")


def test_numbers_of_numpy_become_pythons():
    """A run that goes on reads its config from JSON, and must compute with the same numbers."""
    config = recipe("mnist", "mnist")
    chain = replace(config.diffusion, T=np.int64(100), vlb_weight=np.float64(0.1))
    config = replace(config, lr=np.float64(1e-3), batch=np.int16(8), diffusion=chain)
    read = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert read == config
    for mine, other in ((config, read), (config.diffusion, read.diffusion)):
        assert [type(v) for v in vars(mine).values()] == [type(v) for v in vars(other).values()]


@pytest.mark.parametrize("key", ["lr", "network"])
def test_what_is_no_config_is_refused_with_the_reason(key):
    plain = recipe("mnist", "mnist").to_json()
    del plain[key]
    with pytest.raises(CheckpointError) as refusal:
        RunConfig.from_json(plain)
    assert key in refusal.value.cause


@pytest.mark.parametrize(
    "change",
    [{"lr": -1.0}, {"lr": "fast"}, {"network": []}, {"diffusion": None}, {"more": 1}],
    ids=str,
)
def test_a_config_of_impossible_values_is_none_of_this_program(change):
    with pytest.raises(CheckpointError, match="not one of this program's"):
        RunConfig.from_json(recipe("mnist", "mnist").to_json() | change)
