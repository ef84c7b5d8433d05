"""A checkpoint turned into a model, or refused."""

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from test_bit_exactness import CONFIG, run_to

import tinyddpm
from tinyddpm import arrays
from tinyddpm.data.pixels import to_bytes
from tinyddpm.errors import CheckpointError, DeviceError, UsageError
from tinyddpm.nn.unet import UNet
from tinyddpm.training.checkpoint import save
from tinyddpm.training.model import TrainedModel, from_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    return path, run_to(path)


def test_a_run_and_its_checkpoint_are_the_same_model(trained):
    path, checkpoint = trained
    by_run = tinyddpm.load(path).sample(3, steps=5)
    by_file = tinyddpm.load(path / "checkpoints" / "step-00000012.npz").sample(3, steps=5)
    np.testing.assert_array_equal(by_run, by_file)
    assert by_run.dtype == np.uint8
    assert by_run.shape == (3, 16, 16, 1)
    for weights, values in (("ema", checkpoint.ema), ("raw", checkpoint.value)):
        model = tinyddpm.load(path, weights=weights)
        np.testing.assert_array_equal(model.network.parameters.value, values)
    assert not np.array_equal(checkpoint.ema, checkpoint.value)


def test_parameters_of_another_network_are_refused(trained):
    _, checkpoint = trained
    first, second, *rest = checkpoint.parameters
    with pytest.raises(CheckpointError, match="not those of the network"):
        from_checkpoint(replace(checkpoint, parameters=[second, first, *rest]))


def test_a_damaged_latest_checkpoint_is_warned_of(tmp_path):
    run_to(tmp_path / "run")
    (tmp_path / "run/checkpoints/step-00000012.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="step-00000000.npz is used instead") as warned:
        assert tinyddpm.load(tmp_path / "run").step == 0
    assert warned[0].filename == __file__  # the line that loads is shown


def test_where_there_is_nothing_the_error_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run"):
        tinyddpm.load(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        tinyddpm.load(tmp_path / "none.npz")


def test_checkpoints_of_another_size_do_not_pass(trained, tmp_path):
    _, checkpoint = trained
    config = {**checkpoint.config, "network": {**checkpoint.config["network"], "channels": [4, 4]}}
    save(tmp_path / "odd.npz", replace(checkpoint, config=config))
    with pytest.raises(CheckpointError, match="not those of the network") as refusal:
        tinyddpm.load(tmp_path / "odd.npz")
    assert "flat values must have shape" in refusal.value.cause


@pytest.mark.parametrize("n", [0, -1, 2.5, 2.0, "4", None, (4, 16, 16, 1)], ids=str)
def test_a_number_of_images_that_is_none_is_refused(trained, n):
    with pytest.raises(UsageError, match="n must be a whole number of at least 1"):
        tinyddpm.load(trained[0]).sample(n, steps=1)


@pytest.mark.parametrize("threads", [-1, 1.5])
def test_a_number_of_threads_that_is_none_is_refused(trained, threads):
    with pytest.raises(UsageError, match="threads must be a whole number of at least 0"):
        tinyddpm.load(trained[0]).sample(1, steps=1, threads=threads)


@pytest.mark.parametrize("steps", [0, 21, 2.5, "2"])
def test_steps_that_the_chain_has_not_are_refused(trained, steps):
    with pytest.raises(UsageError, match=r"a whole number of steps, 1 \.\.\. 20"):
        tinyddpm.load(trained[0]).sample(1, steps=steps)


def test_unknown_weights_devices_and_precisions_are_refused(trained):
    with pytest.raises(UsageError, match="unknown weights 'best'") as refusal:
        tinyddpm.load(trained[0], weights="best")
    assert refusal.value.remedy == "ema, raw"
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        tinyddpm.load(trained[0], precision="fp8")
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        tinyddpm.load(trained[0], device="gpu")


def test_a_gpu_that_is_not_there_is_named_as_the_reason(trained, monkeypatch):
    monkeypatch.setattr(arrays, "cuda_obstacle", lambda: "no CUDA device was found")
    with pytest.raises(DeviceError, match="cannot be used") as refusal:
        tinyddpm.load(trained[0], device="cuda")
    assert refusal.value.cause == "no CUDA device was found"
    assert tinyddpm.load(trained[0], device="auto").device == "cpu"


def test_a_model_goes_with_the_last_that_knows_it(trained):
    """Reference counts alone free it: previews of a large network must not pile up."""
    model = tinyddpm.load(trained[0])
    gc.disable()
    try:
        model.sample(20, steps=2, threads=2)
        with model.denoiser(2) as denoiser:
            denoiser(np.zeros((20, *model.image_shape), np.float32), np.ones(20, np.int64))
        networks = [weakref.ref(model.network), weakref.ref(denoiser.network)]
        del model, denoiser
        assert [network() for network in networks] == [None, None]
    finally:
        gc.enable()


def test_a_prediction_goes_through_the_network_shard_by_shard(trained, monkeypatch):
    sizes, forward = [], UNet.forward

    def spied(network, x, *args, **options):
        sizes.append(len(x))
        return forward(network, x, *args, **options)

    model = tinyddpm.load(trained[0])
    monkeypatch.setattr(UNet, "forward", spied)
    with model.denoiser(1) as denoiser:
        denoiser(np.zeros((5, *model.image_shape), np.float32), np.ones(5, np.int64))
    assert sizes == [2, 2, 1]  # the run's shards


@pytest.mark.parametrize("threads", [1, 2])
def test_no_images_are_refused(trained, threads):
    model = tinyddpm.load(trained[0])
    nothing = np.zeros((0, *model.image_shape), np.float32)
    refused = pytest.raises(UsageError, match="at least one image")
    with model.denoiser(threads) as denoiser, refused:
        denoiser(nothing, np.zeros(0, np.int64))
    with refused:
        next(model.decode(nothing, threads=threads))


def test_a_walk_left_open_when_the_program_ends_is_ended_in_silence(trained):
    program = f"""
import tinyddpm
walk = tinyddpm.load({str(trained[0])!r}).walk(20, threads=2)
print(next(walk).t)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (run.stdout, run.stderr) == (b"20\n", b"")


@pytest.fixture
def of_three_classes():
    network = replace(CONFIG.network, classes=3)
    config = replace(CONFIG, network=network, class_names=("a", "b", "c"), flips=False)
    values = UNet(network).parameters.value
    values += 0.1 * np.random.default_rng(0).standard_normal(values.shape)  # no zeros at the end
    return TrainedModel(config, values, step=0)


@pytest.mark.parametrize(
    "labels", [[0, 4], [-1, 0], [0], [0, 1, 2], [[0, 1]], 1, [0.0, 1.0], ["a", "b"]], ids=str
)
@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_labels_of_classes_that_there_are_not_are_refused(of_three_classes, labels, guidance):
    refused = pytest.raises(UsageError, match=r"labels must be 2 integers.* 0 \.\.\. 2, or 3")
    with refused:
        of_three_classes.sample(2, steps=1, labels=labels, guidance=guidance)
    x_T = np.zeros((2, 16, 16, 1), np.float32)
    with refused:
        next(of_three_classes.decode(x_T, steps=1, labels=labels, guidance=guidance))


def test_labels_may_be_a_list_and_name_no_class(of_three_classes):
    assert of_three_classes.sample(2, steps=1, labels=[2, 3]).shape == (2, 16, 16, 1)


def test_a_network_without_classes_is_asked_for_none(trained):
    for asked in ({"labels": [0, 1]}, {"guidance": 1.0}):
        with pytest.raises(UsageError, match="trained without classes"):
            tinyddpm.load(trained[0]).sample(2, steps=1, **asked)


@pytest.mark.parametrize("guidance", [np.nan, np.inf, 1e300, -(2.0**24)])
def test_guidance_that_float32_cannot_follow_is_refused(of_three_classes, guidance):
    """Else the network would be blamed for images of NaN."""
    x_T = np.zeros((2, *of_three_classes.image_shape), np.float32)
    refused = pytest.raises(
        UsageError, match="guidance must lie between -16,777,216 and 16,777,216"
    )
    with refused:
        of_three_classes.sample(2, steps=1, guidance=guidance)
    with refused:
        next(of_three_classes.decode(x_T, steps=1, guidance=guidance))


def written_out(model, labels, guidance):
    """(1 + w) ε(c) − w ε(∅) of x_t and the paper's t, from two calls of the reference's network."""
    network = UNet(model.config.network, values=model.network.parameters.value)
    none = np.full(len(labels), 3)

    def guided(xt, t):
        conditional, _ = network.forward(xt, t - 1, labels=labels)
        unconditional, _ = network.forward(xt, t - 1, labels=none)
        return (1 + guidance) * conditional - guidance * unconditional

    return guided


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("eta", [None, 0.5])
@pytest.mark.parametrize(("labels", "guidance"), [(None, 0.0), ([2, 2, 0, 3, 1], 1.5)])
def test_images_are_those_of_the_chain_walked_by_hand(
    of_three_classes, labels, guidance, eta, threads
):
    """Whatever is asked for arrives: classes, guidance, η, seed, stream and the first number."""
    model = of_three_classes
    asked = {"eta": eta, "guidance": guidance, "seed": 7, "stream": "preview", "threads": threads}
    by_hand = written_out(model, np.array(labels or [0, 1, 2, 0, 1]), guidance)
    chain, drawn = model.diffusion.respace(4), {"seed": 7, "stream": "preview"}
    walk = chain.sample if eta is None else partial(chain.ddim, eta=eta)
    expected = walk(by_hand, (5, 16, 16, 1), **drawn)
    *_, last = model.walk(5, steps=4, labels=labels, **asked)
    np.testing.assert_allclose(last.x, expected, atol=1e-3)
    found = model.sample(5, steps=4, labels=labels, **asked)
    np.testing.assert_array_equal(found, to_bytes(last.x))
    with model.walks(5, steps=4, **asked) as walks:
        *_, last = walks(9, np.array(labels or [0, 1, 2, 0, 1]))
    expected = walk(by_hand, (5, 16, 16, 1), first_sample=9, **drawn)
    np.testing.assert_allclose(last.x, expected, atol=1e-3)


def test_what_nobody_asks_for_is_the_same_for_images_and_for_the_walk_to_them(of_three_classes):
    told = []
    found = of_three_classes.sample(2, progress=told.append)
    *_, last = of_three_classes.walk(2)
    np.testing.assert_array_equal(found, to_bytes(last.x))
    assert told == list(range(20, 0, -1))  # all steps of the chain


def test_noise_is_decoded_without_more_noise(of_three_classes):
    model, labels = of_three_classes, [1, 0]
    x_T = np.random.default_rng(0).standard_normal((2, 16, 16, 1)).astype(np.float32)
    by_hand = written_out(model, np.array(labels), 1.5)
    *_, expected = model.diffusion.respace(4).ddim_steps_from(by_hand, x_T, eta=0.0)
    *_, last = model.decode(x_T, steps=4, labels=labels, guidance=1.5, threads=1)
    np.testing.assert_allclose(last.x, expected.x, atol=1e-3)
