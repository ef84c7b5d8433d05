"""What a time-to-quality is measured of, and under which conditions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tinyddpm.benchmark import surroundings
from tinyddpm.data.mnist import MNIST
from tinyddpm.errors import UsageError
from tinyddpm.evaluation.classifier import Classifier
from tinyddpm.evaluation.lenet import IMAGE_SHAPE
from tinyddpm.parallel import available_cores
from tinyddpm.training.config import RunConfig, recipe

DATA = MNIST.name
SEEDS, SAMPLES, STEPS = 3, 10_000, 50  # unless told
MOST_SAMPLES = 60_000  # they are held against as many training images


class QualitySettings(NamedTuple):
    """What to measure.

    Attributes:
        preset: whose recipe is followed.
        train_steps: in place of the recipe's; 0: the recipe's.
        seeds: how many.
        samples: that each seed is judged by.
        steps: of the reverse chain, ancestral.
        threads: workers; 0: one for each core.
        data_dir: folder with the files of MNIST; None: where they usually are.
    """

    preset: str = "mnist"
    train_steps: int = 0
    seeds: int = SEEDS
    samples: int = SAMPLES
    steps: int = STEPS
    threads: int = 0
    data_dir: Path | None = None

    def config(self, seed: int) -> RunConfig:
        """The run of ``seed``.

        Raises:
            UsageError: the preset is made for other images than MNIST's, or its chain is shorter
                than ``steps``.
        """
        chosen = recipe(self.preset, DATA)
        shape = chosen.network.image_shape
        if shape != IMAGE_SHAPE:
            raise UsageError(
                "the time to quality is measured on MNIST alone: a classifier of it is the judge",
                cause=f"preset {self.preset} is made for images of {'×'.join(map(str, shape))}",
                remedy="--preset mnist, or mnist-1.7m",
            )
        if not 1 <= self.steps <= chosen.diffusion.T:
            raise UsageError(f"--steps must be from 1 to {chosen.diffusion.T}: got {self.steps}")
        return replace(chosen, seed=seed, train_steps=self.train_steps or chosen.train_steps)

    def conditions(self, classifier: Classifier) -> dict[str, Any]:
        """All that seeds must have in common, as JSON: machine, configuration, judge."""
        machine, config = surroundings.description(), self.config(0).to_json()
        common = {
            "machine": {key: value for key, value in machine.items() if key != "load"},
            "threads": self.threads or available_cores(),
            "config": {k: v for k, v in config.items() if k not in {"seed", "data_dir"}},
            "samples": self.samples,
            "sampling": {"steps": self.steps, "eta": None},
            "classifier": classifier.about(),
        }
        return {**json.loads(json.dumps(common))}  # lists in place of tuples
