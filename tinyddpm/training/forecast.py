"""What a run will take, before it is begun: found by doing its first few steps for real.

Memory is the most that the process and its workers have had in use after these steps and the
beginning of a preview, since all later steps do the same; on a GPU it is what is taken by then.
Time is the median of the steps after the first, times the steps to be done, plus the previews.

On a CPU a step takes its shards in turn. If there are many, only the first few are timed, and the
others are taken to last as long. If there is less memory than a step takes at the least, none is
done.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import NamedTuple

from tinyddpm.arrays import to_host
from tinyddpm.data.dataset import Dataset
from tinyddpm.machine import free_memory, peak_memory, total_memory
from tinyddpm.parallel import Workers
from tinyddpm.training import loop
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import RunConfig
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.disk_use import DiskUse, disk_use, multiples
from tinyddpm.training.kernel_choice import cuda_runtime
from tinyddpm.training.least_memory import PER_IMAGE, least_memory
from tinyddpm.training.model import TrainedModel
from tinyddpm.training.step import Trainer

TIMED_STEPS = 3  # after one that warms up
TIMED_SHARDS = 4  # of such a step, for each worker on a CPU
TIMED_PREVIEW = 1, 4  # steps of the reverse chain: of a short preview, and of a longer one


class Forecast(NamedTuple):
    """What a run will take; sizes in bytes.

    Attributes:
        parameters: of the network.
        images: the data set in memory.
        least_memory: of the host, what the steps take at least; 0 on a GPU, where it is not known.
        free_memory: of the host.
        peak_memory: of the host, of this process and its workers; None if no step was done.
        card_memory: of the GPU, what the run has taken; None on a CPU.
        card_free: of the GPU, what was free before; None on a CPU.
        disk: the files.
        steps: to be done.
        step_seconds: of the steps that were timed; none if they would not fit into memory.
        timed_images: in each of these.
        batch: images in a step of the run.
        previews: to be drawn.
        preview_seconds: of one of them.
    """

    parameters: int
    images: int
    least_memory: int
    free_memory: int
    peak_memory: int | None
    card_memory: int | None
    card_free: int | None
    disk: DiskUse
    steps: int
    step_seconds: list[float]
    timed_images: int
    batch: int
    previews: int
    preview_seconds: float

    @property
    def seconds(self) -> float | None:
        """How long it will take, if that is known; writing the checkpoints comes on top."""
        if not self.step_seconds:
            return None
        step = statistics.median(self.step_seconds) * self.batch / self.timed_images
        return step * self.steps + self.preview_seconds * self.previews


def forecast(
    config: RunConfig,
    dataset: Dataset,
    execution: loop.Execution,
    resume_from: Checkpoint | None = None,
    saved: int = 0,
) -> Forecast:
    """Do a few steps of a run, if they fit, keep nothing, and return what the whole will take.

    ``saved`` is how many checkpoints there are.

    Raises:
        NonFiniteError: the loss or the gradient of one of these steps is not finite.
    """
    first, last = resume_from.step if resume_from else 0, config.train_steps
    every = execution.preview_every
    previews = multiples(first, last - 1, every) + 1 if every and first < last else 0
    free, on_cpu = free_memory() or total_memory(), execution.device == "cpu"
    card_free = None if on_cpu else _room_on_the_card()
    with Workers(execution.threads if on_cpu else 1) as workers:
        longest = TIMED_SHARDS * workers.threads * config.shard
        timed = min(config.batch, longest) if on_cpu else config.batch
        trainer = loop.trainer_for(replace(config, batch=timed), dataset, workers, execution)
        if resume_from:
            loop.restore(trainer, resume_from)
        least = least_memory(config, trainer.network, workers.threads) if on_cpu else 0
        numbers = range(1, TIMED_STEPS + 2) if least <= free else ()
        seconds = [_timed(trainer, first + number) for number in numbers]
        preview_seconds = _timed_preview(trainer, execution) if seconds and previews else 0.0
    card_memory = None if card_free is None else card_free - cuda_runtime().free_memory()
    count = trainer.network.parameters.count
    return Forecast(
        parameters=count,
        images=dataset.images.nbytes,
        least_memory=least,
        free_memory=free,
        peak_memory=peak_memory() + PER_IMAGE * (config.batch - timed) if seconds else None,
        card_memory=card_memory,
        card_free=card_free,
        disk=disk_use(config, count, execution.save_every, first=first, saved=saved),
        steps=last - first,
        step_seconds=seconds[1:],
        timed_images=timed,
        batch=config.batch,
        previews=previews,
        preview_seconds=preview_seconds,
    )


def _room_on_the_card() -> int:
    """The card's free memory when a run begins: before this process has taken any of it."""
    cuda_runtime().give_back()
    return cuda_runtime().free_memory()


def _timed(trainer: Trainer | DeviceTrainer, step: int) -> float:
    begun = time.perf_counter()
    for reports in (trainer.advance(step), trainer.flush()):
        list(reports)  # the steps are done as their reports are taken
    return time.perf_counter() - begun


def _timed_preview(trainer: Trainer | DeviceTrainer, execution: loop.Execution) -> float:
    """Seconds of a preview, from short ones: what is done once, and what each step adds.

    On a GPU the first preview compiles kernels, and every preview records its step before it walks.
    """
    values, device, precision = to_host(trainer.ema), execution.device, execution.precision
    model = TrainedModel(trainer.config, values, 0, device=device, precision=precision)
    images, steps = loop.PREVIEW_IMAGES, min(loop.PREVIEW_STEPS, model.diffusion.schedule.T)

    def seconds(steps: int) -> float:
        begun = time.perf_counter()
        model.sample(images, steps=steps, stream="preview", threads=execution.threads)
        return time.perf_counter() - begun

    few, more = min(TIMED_PREVIEW[0], steps), min(TIMED_PREVIEW[1], steps)
    seconds(few)
    once = seconds(few)
    each = (seconds(more) - once) / (more - few) if more > few else 0.0
    return once + max(each, 0.0) * (steps - few)
