"""The training step on a GPU: recorded once, then launched as a whole for every step.

Drawing the batch, forward, backward, clipping, Adam and EMA follow one another on the device, and
whatever differs between two steps (the number of the step above all) lies in its memory. The host
only launches.

Losses and norms stay on the device for 64 steps and are then copied together. The host waits some
steps more, until the copy has surely arrived; from then on, with each step that it launches, it
reports on an old one. So the device never waits for the host.

The numbers are those of ``training.step``, up to rounding, and so a run may go from one device to
another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import final

import numpy as np

from tinyddpm import optim, rng
from tinyddpm.arrays import Floats
from tinyddpm.data.dataset import Dataset
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes, TimeSampler
from tinyddpm.kernels.cuda.batch import Batches, Labels, Noise
from tinyddpm.kernels.cuda.gradients import Gradients
from tinyddpm.kernels.cuda.loss import ROWS, Losses
from tinyddpm.kernels.cuda.operands import Operands, PreparedWeight
from tinyddpm.kernels.cuda.partial_sums import AtTheEnd
from tinyddpm.kernels.cuda.runtime import AHEAD, Precision, Runtime
from tinyddpm.kernels.cuda.second_moment import SecondMoment
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.kernels.cuda.update import Buffers, Recipe, Updates
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.parameters import empty_slots
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import RunConfig
from tinyddpm.training.device_tables import loss_table
from tinyddpm.training.step import StepReport, by_quartile, check_finite


@final
class DeviceTrainer:
    """The state of a run on a GPU, and its step; the counterpart of ``step.Trainer``.

    Args:
        config: the run.
        dataset: the training set, which goes to the device as bytes.
        runtime: the device.
        precision: of the products.

    Attributes:
        network: its parameters are the raw weights.
        ema: their moving average, flat.
        adam_m: Adam's first moment, flat.
        adam_v: Adam's second moment, flat.
        times: what draws t; it has learnt of the steps that were told.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, runtime: Runtime, precision: Precision = "fp32"
    ) -> None:
        self.config, self.device = config, "cuda"
        self._runtime, self._count = runtime, len(dataset.images)
        host = UNet(config.network, config.seed).parameters.value
        value, self.ema = runtime.empty(host.shape), runtime.empty(host.shape)
        runtime.upload(host, value)
        runtime.upload(host, self.ema)
        self.adam_m, self.adam_v = runtime.zeros(host.shape), runtime.zeros(host.shape)
        kernels = cuda_table(runtime, precision, AtTheEnd(runtime))
        self.network = UNet(config.network, kernels=kernels, values=value)
        self.times = config.diffusion.build_times()
        self._learnt = _learnt(config, self.times, runtime)
        self._batches = _batches(config, dataset, runtime, self._learnt)
        table = loss_table(config.diffusion, dataset.images[0].size)
        self._losses = Losses(runtime, table, config.batch)
        parameters = self.network.parameters
        self._gradients = Gradients(runtime, [p.size for p in parameters])
        self._slots = parameters.open_slots()
        self._operands = Operands(runtime, precision)
        buffers = Buffers(value, parameters.grad, self.adam_m, self.adam_v, self.ema)
        rate = config.lr, config.warmup, config.decay_from
        recipe = Recipe(*rate, config.grad_clip, config.ema_decay)
        self._updates = Updates(runtime, buffers, self._losses.rows, recipe)
        self._replay: Callable[[], None] | None = None
        self._next = 0  # the step that the device is at
        self._copied, self._told = 0, 0  # the last steps whose findings were copied, and told
        self._reports: Iterator[tuple[int, StepReport]] = iter(())  # of what was copied

    def advance(self, step: int) -> Iterator[tuple[int, StepReport]]:
        """Launch step ``step``, and yield the report that is due, if any, on one long before.

        Raises:
            NonFiniteError: a loss or gradient was not finite; from that step on nothing was
                updated.
        """
        if step != self._next:
            self._begin_at(step)
        self._provide_orders(step)
        if self._replay is None:
            self._replay = self._runtime.record(self._step)
        else:
            self._replay()
        self._next = step + 1
        if step - self._copied == ROWS:
            self._reports = chain(self._reports, self._copy())
        if step - self._told > ROWS + AHEAD:
            yield from islice(self._reports, 1)

    def _begin_at(self, step: int) -> None:
        self._updates.begin_at(step)
        self._copied = self._told = step - 1
        self._reports = iter(())
        if self._learnt:
            self._learnt.restore(self.times.state())

    def flush(self) -> Iterator[tuple[int, StepReport]]:
        """Wait for the device, and yield the reports of all steps that were not told yet.

        Raises:
            NonFiniteError: as in ``advance``.
        """
        if self._copied < self._next - 1:
            self._reports = chain(self._reports, self._copy())
        yield from self._reports

    def _copy(self) -> Iterator[tuple[int, StepReport]]:
        """Have copied what the steps since the last copy found; their reports wait for that."""
        download = self._runtime.download
        losses, norms = download(self._losses.rows), download(self._updates.norms)
        steps, self._copied = range(self._copied + 1, self._next), self._next - 1

        def reports() -> Iterator[tuple[int, StepReport]]:
            found, lengths = losses(), norms()
            for step in steps:
                row, self._told = step % ROWS, step
                yield step, self._report(step, found[row].astype(np.float64), float(lengths[row]))

        return reports()

    def _step(self) -> None:
        """All of one step. It reads nothing of the host that changes."""
        parameters, state, batches = self.network.parameters, self._updates.state, self._batches
        learnt, weights = self._learnt, None
        prepared = (p.prepared for p in parameters)
        self._operands.refresh(p for p in prepared if isinstance(p, PreparedWeight))
        if learnt:
            learnt.draw(state)
            weights = learnt.weights
        batches.draw(state)
        output, saved = self.network.forward(
            batches.xt,
            network_time(batches.times),
            labels=batches.told,
            masks=batches.masks(state),
            prepare=False,
        )
        doutput = self._losses.gradient(output, batches, state, weights)
        empty_slots(self._slots)
        self.network.backward(doutput, saved, use_up=True)
        self._gradients.gather([slot.emptied() for slot in self._slots], parameters.grad)
        self._updates.apply(self._gradients.partial_squares)
        if learnt:
            learnt.learn(self._losses.rows, state)

    def _provide_orders(self, step: int) -> None:
        """Put the orders of the epochs that ``step`` takes images from on the device."""
        batch, n = self.config.batch, self._count
        for epoch in range((step - 1) * batch // n, (step * batch - 1) // n + 1):
            if not self._batches.holds(epoch):
                order = rng.permutation(self.config.seed, "order", epoch=epoch, n=n)
                self._batches.take_order(epoch, order)

    def _report(self, step: int, losses: Floats, norm: float) -> StepReport:
        """What ``step`` found; its times are drawn once more, on the host, which learns as well."""
        config = self.config
        times, weights = self.times.draw(config.seed, step=step, samples=np.arange(config.batch))
        loss = float((weights * losses).mean())
        check_finite(step, loss, norm, times[~np.isfinite(losses)])
        self.times.update(times, losses)
        lr = optim.learning_rate(step, config.lr, config.warmup, config.decay_from)
        return StepReport(loss, by_quartile(losses, times, config.diffusion.T), norm, lr)


def _learnt(config: RunConfig, times: TimeSampler, runtime: Runtime) -> SecondMoment | None:
    """What does on the device what ``times`` do here; uniform times are drawn with the noise."""
    if not isinstance(times, SecondMomentTimes):
        return None
    return SecondMoment(runtime, times.history.shape, batch=config.batch, seed=config.seed)


def _batches(
    config: RunConfig, dataset: Dataset, runtime: Runtime, learnt: SecondMoment | None
) -> Batches:
    schedule, labels = config.diffusion.build().schedule, None
    rates = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    noise = Noise(*rates, config.diffusion.predict, flips=config.flips, seed=config.seed)
    if config.network.classes and dataset.labels is not None:
        labels = Labels(dataset.labels, config.network.classes, config.label_dropout)
    times = learnt.times if learnt else None
    return Batches(runtime, dataset.images, config.batch, noise, labels, times)
