"""The training loop: steps, metrics, checkpoints, previews; and how it stops and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tinyddpm.arrays import to_device, to_host
from tinyddpm.data.dataset import ByteArray, Dataset
from tinyddpm.errors import CheckpointError
from tinyddpm.figures.grid import grid, save_png, zoom_for
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.parallel import Workers
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import RunConfig, differing
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.kernel_choice import cuda_runtime, kernels_for
from tinyddpm.training.model import TrainedModel, check_parameters
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import StepReport, Trainer

PREVIEW_IMAGES, PREVIEW_STEPS = 16, 50
MAY_CHANGE = {"train_steps", "data_dir"}  # when a run is resumed


class Execution(NamedTuple):
    """How a run is carried out.

    Device and precision change how the result is rounded, the rest changes no bit of it. A run that
    is resumed may go on in another way.

    Attributes:
        threads: workers; 0 means one for each core.
        device: ``cpu`` or ``cuda``.
        save_every: steps between checkpoints; 0: only at the end.
        preview_every: steps between preview grids, and one at the end; 0: none.
        precision: of the products on a GPU; sums, and all that is kept, are float32.
    """

    threads: int = 0
    device: str = "cpu"
    save_every: int = 1000
    preview_every: int = 1000
    precision: Precision = "fp32"


class Hooks(NamedTuple):
    """What the caller wants to know, and how it asks to stop.

    Attributes:
        after_step: called with the step and its report.
        stop_asked: asked after each step; true ends the run with a checkpoint.
        after_preview: if given, shown the images of each preview grid, uint8 (N, H, W, C).
    """

    after_step: Callable[[int, StepReport], None]
    stop_asked: Callable[[], bool]
    after_preview: Callable[[ByteArray], None] | None = None


def train(
    config: RunConfig,
    dataset: Dataset,
    run: RunDirectory,
    execution: Execution,
    hooks: Hooks,
    resume_from: Checkpoint | None = None,
) -> int:
    """Train to ``config.train_steps``, or until asked to stop, and leave a checkpoint.

    Returns:
        The last step done.

    Raises:
        RunLockedError: another process is training here.
        CheckpointError: another one has trained here since ``resume_from`` was read.
        NonFiniteError: a loss or gradient is not finite; the last checkpoint is unharmed.
        StorageError: a file could not be written.
    """
    with run.lock(), Workers(execution.threads if execution.device == "cpu" else 1) as workers:
        _check_still_latest(run, resume_from)
        trainer = trainer_for(config, dataset, workers, execution)
        step, journal = 0, _Journal(run, hooks)
        if resume_from:
            restore(trainer, resume_from)
            step, journal.seconds = resume_from.step, resume_from.seconds
        run.write_config(config.to_json())
        run.trim_metrics(step)
        if not resume_from:
            run.save_checkpoint(to_checkpoint(trainer, dataset, step, journal.seconds))
        while step < config.train_steps:
            step += 1
            journal.note(trainer.advance(step))
            last = step == config.train_steps
            stop = hooks.stop_asked() and not last  # no later step would draw the last preview
            if stop or last or _due(step, execution.save_every):
                journal.note(trainer.flush())
                run.save_checkpoint(to_checkpoint(trainer, dataset, step, journal.seconds))
            if stop:
                break
            if execution.preview_every and (last or _due(step, execution.preview_every)):
                journal.note(trainer.flush())
                images = preview(trainer, run, step, execution)
                if hooks.after_preview:
                    hooks.after_preview(images)
        return step


def trainer_for(
    config: RunConfig, dataset: Dataset, workers: Workers, execution: Execution
) -> Trainer | DeviceTrainer:
    """Return the trainer for the device of ``execution``; that of a GPU records its step."""
    if execution.device == "cuda":
        return DeviceTrainer(config, dataset, cuda_runtime(), execution.precision)
    return Trainer(config, dataset, workers, kernels_for(execution.device))


class _Journal:
    """Writes the reports of steps down and passes them on.

    Attributes:
        seconds: spent in steps, from the beginning of the run.
    """

    def __init__(self, run: RunDirectory, hooks: Hooks) -> None:
        self._run, self._hooks = run, hooks
        self.seconds = 0.0

    def note(self, reports: Iterable[tuple[int, StepReport]]) -> None:
        """Write down ``reports``. Asking for the next one does its step, and that is timed."""
        begun = time.perf_counter()
        for step, report in reports:
            self.seconds += time.perf_counter() - begun
            self._run.append_metrics(_metrics(step, report, self.seconds))
            self._hooks.after_step(step, report)
            begun = time.perf_counter()
        self.seconds += time.perf_counter() - begun


def _check_still_latest(run: RunDirectory, checkpoint: Checkpoint | None) -> None:
    """Refuse to go back behind what another process trained here before we had the lock."""
    latest = run.latest_checkpoint().checkpoint if run.saved() else None
    then, now = (f"at step {c.step}" if c else "not begun" for c in (checkpoint, latest))
    if then != now:
        raise CheckpointError(
            f"{run.path} was trained on meanwhile",
            cause=f"it was {then} and is now {now}",
            remedy="the same command again",
        )


def to_checkpoint(
    trainer: Trainer | DeviceTrainer, dataset: Dataset, step: int, seconds: float
) -> Checkpoint:
    """Return the whole state of ``trainer`` after ``step``."""
    parameters = trainer.network.parameters
    return Checkpoint(
        step=step,
        config=trainer.config.to_json(),
        data_fingerprint=dataset.fingerprint,
        parameters=[(p.name, p.shape) for p in parameters],
        seconds=seconds,
        value=to_host(parameters.value),
        ema=to_host(trainer.ema),
        adam_m=to_host(trainer.adam_m),
        adam_v=to_host(trainer.adam_v),
        extra=trainer.times.state(),
    )


def restore(trainer: Trainer | DeviceTrainer, checkpoint: Checkpoint) -> None:
    """Put the state of ``checkpoint`` into ``trainer``.

    Raises:
        CheckpointError: its parameters are not those of the trainer's network.
    """
    parameters = trainer.network.parameters
    check_parameters(trainer.network, checkpoint)
    for mine, saved in (
        (parameters.value, checkpoint.value),
        (trainer.ema, checkpoint.ema),
        (trainer.adam_m, checkpoint.adam_m),
        (trainer.adam_v, checkpoint.adam_v),
    ):
        mine[...] = to_device(saved, trainer.device)
    trainer.times.restore(checkpoint.extra)


def check_same_config(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Refuse to go on with another configuration; its length and the data's folder may differ.

    Raises:
        CheckpointError: its cause lists the differing keys.
    """
    pairs = differing(RunConfig.from_json(checkpoint.config), config)
    changed = {key: pair for key, pair in pairs.items() if key not in MAY_CHANGE}
    if changed:
        raise CheckpointError(
            "the run was begun with another configuration",
            cause="; ".join(f"{key}: {one} → {other}" for key, (one, other) in changed.items()),
            remedy="leave these options out to go on with the run, or begin a new one",
        )


def check_same_data(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Refuse to go on with other data.

    Raises:
        CheckpointError: the images are not those that the run was begun with.
    """
    if dataset.fingerprint != checkpoint.data_fingerprint:
        raise CheckpointError(
            f"the run was trained on other data than this {dataset.name}",
            cause=f"fingerprint {checkpoint.data_fingerprint[:12]}… → {dataset.fingerprint[:12]}…",
            remedy="the data set it was begun with, or a new run",
        )


def preview(
    trainer: Trainer | DeviceTrainer, run: RunDirectory, step: int, execution: Execution
) -> ByteArray:
    """Draw a small grid with the averaged weights, and return its images, uint8 (N, H, W, C).

    Its random numbers are a stream of their own.
    """
    device, precision = execution.device, execution.precision
    values = to_host(trainer.ema)
    model = TrainedModel(trainer.config, values, step, device=device, precision=precision)
    steps = min(PREVIEW_STEPS, model.diffusion.schedule.T)
    images = model.sample(
        PREVIEW_IMAGES,
        steps=steps,
        seed=trainer.config.seed,
        stream="preview",
        threads=execution.threads,
    )
    save_png(grid(images, zoom=zoom_for(images.shape)), run.samples / f"step-{step:08d}.png")
    return images


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _metrics(step: int, report: StepReport, seconds: float) -> dict[str, float | None]:
    quartiles = {f"loss_q{q}": value for q, value in enumerate(report.quartiles)}
    return {
        "step": step,
        "loss": report.loss,
        "seconds": round(seconds, 3),
        "grad_norm": report.grad_norm,
        "lr": report.lr,
        **quartiles,
    }
