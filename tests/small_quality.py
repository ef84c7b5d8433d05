"""A time-to-quality that takes a second: few channels, small batches, stand-ins for MNIST."""

from dataclasses import replace

from fake_mnist import as_dataset, bars, write_mnist

from tinyddpm.benchmark import quality_settings, time_to_quality
from tinyddpm.evaluation import chunks, sample_quality
from tinyddpm.evaluation.classifier import shipped
from tinyddpm.training import kept_samples
from tinyddpm.training.config import recipe

CHUNK = 16
BATCH = 4
TRAIN, TEST = bars(60, seed=0), bars(40, seed=1)


def small_recipe(preset, data):
    """The recipe for a narrow network and a small batch."""
    chosen = recipe(preset, data)
    network = replace(chosen.network, channels=(4, 4, 8), groups=2, heads=1)
    return replace(chosen, network=network, batch=BATCH, shard=2)


def make_small(monkeypatch, folder):
    """Lay the stand-ins down in ``folder``, and let them pass for what the classifier learnt."""
    learnt = replace(shipped(), data_fingerprint=as_dataset(TRAIN).fingerprint)
    monkeypatch.setattr(time_to_quality.classifiers, "shipped", lambda: learnt)
    monkeypatch.setattr(quality_settings, "recipe", small_recipe)
    for module in (chunks, kept_samples):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    monkeypatch.setattr(sample_quality, "REAL_DRAWS", 3)
    return write_mnist(folder, TRAIN, TEST)
