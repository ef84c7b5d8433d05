"""Where generated images are kept: apart from all that were generated otherwise."""

from dataclasses import replace

import numpy as np
from test_bit_exactness import CONFIG

import tinyddpm
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


def test_without_classes_labels_do_not_matter_and_files_keep_theirs_beside_them(tmp_path):
    path = folder(tmp_path, CONFIG)
    assert folder(tmp_path, CONFIG, labels=LABELS[::-1]) == path
    assert path.parent == tmp_path / "samples"
