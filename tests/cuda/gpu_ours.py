"""Our parts of ``on_a_gpu.py``, each run in a process of its own."""

import collections
import itertools
import subprocess
import sys
from dataclasses import replace

import click
import cupy
import numpy as np
from gpu_clock import Clock, config_of, keep, tell

from tinyddpm import __version__
from tinyddpm.arrays import to_host
from tinyddpm.benchmark.ours import random_dataset
from tinyddpm.data.dataset import Dataset
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.training.config import recipe
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.device_walk import device_walk
from tinyddpm.training.kernel_choice import cuda_runtime

PARITY_PRESETS = ("mnist", "mnist-1.7m", "cifar10", "cifar10-improved")
PARITY_PRECISIONS = ("fp32", "tf32", "bf16")
IMAGES = 51_200


@click.group()
def main():
    """One part."""


def part(function):
    """A command with the batch size as an option."""
    return main.command(function.__name__)(
        click.option("--batch", default=128, show_default=True)(function)
    )


@part
def machine(batch):
    """What this is measured on."""
    card = cupy.cuda.runtime.getDeviceProperties(0)
    found = {
        "card": card["name"].decode(),
        "multiprocessors": card["multiProcessorCount"],
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "nvrtc": cupy.cuda.nvrtc.getVersion(),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "tinyddpm": __version__,
        "batch": batch,
    }
    keep(found)


@part
def tests(batch):
    """Everything that needs a card."""
    del batch
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "--durations=5"]
    sys.exit(subprocess.run(command, check=False).returncode)


def trainable(config):
    """With the objective that is recorded: the mean square of ε, without a learned variance."""
    network = replace(config.network, out_channels=config.network.in_channels)
    return replace(config, network=network, diffusion=recipe("mnist", "random").diffusion)


class Uncaptured:
    """A runtime that does again what it is to record."""

    def __init__(self, runtime):
        self._runtime = runtime

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def record(self, work):
        work()
        return work


def many_images(network):
    """As many as a real data set has: at each epoch the host sends a new order of them."""
    few = random_dataset(network)
    return Dataset(few.name, np.tile(few.images, (IMAGES // len(few.images), 1, 1, 1)))


def trainer_of(config, precision, wrapped=lambda runtime: runtime):
    """Our training step on the device; the runtime may be wrapped."""
    runtime = wrapped(cuda_runtime())
    kernels = cuda_table(runtime, precision)
    return DeviceTrainer(config, many_images(config.network), kernels, runtime)


@part
def parity(batch):
    """Three recorded steps of each preset are those launched kernel by kernel."""
    failed = False
    for preset, precision in itertools.product(PARITY_PRESETS, PARITY_PRECISIONS):
        config = trainable(config_of(preset, min(batch, 16)))
        values = []
        for wrapped in (lambda runtime: runtime, Uncaptured):
            trainer = trainer_of(config, precision, wrapped)
            for step in (1, 2, 3):
                list(trainer.advance(step))
            losses = [report.loss for _, report in trainer.flush()]
            values.append(to_host(trainer.network.parameters.value))
        difference = np.abs(values[0] - values[1]).max()
        failed |= bool(difference != 0)
        click.echo(f"{preset} {precision}: difference {difference}, losses {losses}")
    sys.exit(failed)


@part
@click.argument("preset")
@click.argument("precision")
def ours(batch, preset, precision):
    """Our training step and our sampling step, recorded."""
    config = config_of(preset, batch)
    trainer = trainer_of(config, precision)
    clock = Clock(cupy.cuda.Event, cupy.cuda.get_elapsed_time)
    steps = iter(range(1, sys.maxsize))
    quartiles = clock.spread(lambda: list(trainer.advance(next(steps))))
    tell("train", preset, precision, "tinyddpm", batch, quartiles)
    # A chain so long that its step is recorded only once.
    chain = replace(config.diffusion, T=100_000).build()
    shape = (batch, *random_dataset(config.network).images.shape[1:])
    walk = device_walk(
        trainer.network, chain, cuda_runtime(), shape, eta=None, seed=0, stream="sample"
    )
    tell("sample", preset, precision, "tinyddpm", batch, clock.spread(lambda: next(walk)))
    used = cupy.cuda.Device().mem_info
    click.echo(f"memory in use: {(used[1] - used[0]) / 2**30:.2f} GiB")


@part
@click.argument("preset")
@click.argument("precision")
def kernels(batch, preset, precision):
    """Milliseconds by kernel of our own, of a training step launched kernel by kernel.

    A short kernel's time is that of its launch by the host, which a recorded step does not take.
    """
    marks = []

    class Marked(Uncaptured):
        def launch(self, function, *args, **options):
            begun, ended = cupy.cuda.Event(), cupy.cuda.Event()
            begun.record()
            self._runtime.launch(function, *args, **options)
            ended.record()
            marks.append((function.name, begun, ended))

    trainer = trainer_of(config_of(preset, batch), precision, Marked)
    for step in (1, 2):
        list(trainer.advance(step))
    marks.clear()
    list(trainer.advance(3))
    cupy.cuda.Device().synchronize()
    sums = collections.Counter()
    for name, begun, ended in marks:
        sums[name] += cupy.cuda.get_elapsed_time(begun, ended)
    counts = collections.Counter(name for name, *_ in marks)
    for name, ms in sums.most_common():
        click.echo(f"{name:32}{counts[name]:5} launches {ms:9.3f} ms")
    click.echo(f"{'together':32}{len(marks):5} launches {sum(sums.values()):9.3f} ms")
    keep({"preset": preset, "precision": precision, "by": dict(sums)})


if __name__ == "__main__":
    main()
