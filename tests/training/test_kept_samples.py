"""Where generated images are kept: apart from all that were generated otherwise."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_bit_exactness import CONFIG

import tinyddpm
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.evaluation.chunks import CHUNK
from tinyddpm.nn.unet import UNet
from tinyddpm.training import kept_samples
from tinyddpm.training.kept_samples import KeptSamples, Sampling
from tinyddpm.training.model import TrainedModel

SAMPLING, LABELS = Sampling(steps=4, eta=None, seed=0), np.array([0, 1, 2])
OF_CLASSES = replace(
    CONFIG, network=replace(CONFIG.network, classes=3), class_names=("a", "b", "c")
)


def folder(home, config=OF_CLASSES, *, shift=0.0, sampling=SAMPLING, labels=LABELS, device="cpu"):
    values = UNet(config.network).parameters.value + np.float32(shift)
    trained = TrainedModel(config, values, step=5)
    trained.device = device
    return KeptSamples(trained, home / "step-00000005.npz", sampling, labels).path


def test_all_that_the_images_depend_on_is_in_the_name(tmp_path, monkeypatch):
    home = tmp_path / "run" / "checkpoints"
    chain = replace(OF_CLASSES.diffusion, schedule="log-snr-linear")
    paths = [
        folder(home),
        folder(home, replace(OF_CLASSES, diffusion=chain)),
        folder(home, replace(OF_CLASSES, shard=3)),
        folder(home, shift=0.5),
        folder(home, labels=LABELS[::-1]),
        *(folder(home, sampling=replace(SAMPLING, **it)) for it in ({"steps": 5}, {"seed": 1})),
        folder(home, sampling=replace(SAMPLING, eta=0.0)),
        folder(home, device="cuda"),
    ]
    for module, name, other in ((kept_samples, "CHUNK", 64), (tinyddpm, "__version__", "0")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, other)
            paths.append(folder(home))
    assert len(set(paths)) == len(paths)
    assert {path.parent for path in paths} == {tmp_path / "run" / "samples"}
    assert folder(home) == paths[0]


@pytest.fixture
def walked(monkeypatch):
    """Which labels are asked for; the first step of a walk takes 100 s and each other one 1 s."""
    labels, now = [], [0.0]

    def walk(first, asked):
        assert first == CHUNK * len(labels)
        labels.append(asked)
        for t in range(SAMPLING.steps, 0, -1):
            now[0] += 100 if t == SAMPLING.steps else 1
            blank = np.zeros((CHUNK, 16, 16, 1), np.float32)
            yield SampleStep(t, blank, blank)

    monkeypatch.setattr(TrainedModel, "walks", lambda *_, **__: nullcontext(walk))
    monkeypatch.setattr(kept_samples, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return labels


def kept_in(home):
    values = UNet(OF_CLASSES.network).parameters.value
    trained = TrainedModel(OF_CLASSES, values, step=5)
    return KeptSamples(trained, home / "step-00000005.npz", SAMPLING, LABELS)


def test_labels_are_asked_for_over_and_over(tmp_path, walked):
    kept, told = kept_in(tmp_path), []
    calls = kept.calls(CHUNK + 1)
    kept.collect(CHUNK + 1, lambda: told.append(0))
    np.testing.assert_array_equal(np.concatenate(walked), np.resize(LABELS, 2 * CHUNK))
    assert calls == len(told) == 2 * SAMPLING.steps


@pytest.mark.usefixtures("walked")
def test_a_call_lasts_as_long_as_all_but_the_first_of_a_walk(tmp_path):
    assert kept_in(tmp_path).seconds_a_call() == 1


def test_without_classes_labels_do_not_matter_and_files_keep_theirs_beside_them(tmp_path):
    path = folder(tmp_path, CONFIG)
    assert folder(tmp_path, CONFIG, labels=LABELS[::-1]) == path
    assert path.parent == tmp_path / "samples"
