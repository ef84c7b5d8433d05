"""The recorded training step is that of the host, and a run may go from one device to the other.

Graphs are captured and replayed as CUDA does it (``fake_cupy``): what a step would freeze, wait for
or copy from the host is an error or a wrong result here.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import used_up

from tinyddpm.arrays import to_host
from tinyddpm.data.dataset import Dataset
from tinyddpm.data.glyphs import glyphs
from tinyddpm.errors import NonFiniteError
from tinyddpm.kernels.cuda.loss import ROWS
from tinyddpm.kernels.cuda.runtime import AHEAD
from tinyddpm.nn.config import UNetConfig
from tinyddpm.ops.kernels import reference
from tinyddpm.parallel import Workers
from tinyddpm.training import loop
from tinyddpm.training.config import DiffusionConfig, RunConfig
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.kernel_choice import cuda_runtime
from tinyddpm.training.model import from_checkpoint
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import Trainer

pytestmark = pytest.mark.cuda_sim

CONFIG = RunConfig(
    data="glyphs",
    preset="tiny",
    network=UNetConfig(image_size=8, channels=(4, 8), attention_at=(4,), groups=2, dropout=0.2),
    diffusion=DiffusionConfig(T=20),
    batch=3,
    shard=2,
    train_steps=5,
    lr=1e-2,
    warmup=3,
    ema_decay=0.9,
    flips=True,
)
TINY = UNetConfig(image_size=8, channels=(2,), groups=1)
LARGE = glyphs(n=4)  # an epoch ends within every second step
DATASET = Dataset("small", LARGE.images[:, ::2, ::2].copy(), LARGE.labels)
STATE = ("ema", "adam_m", "adam_v")


def device_trainer(config=CONFIG, precision="fp32"):
    return DeviceTrainer(config, DATASET, cuda_runtime(), precision)


def relative(array, expected):
    return np.linalg.norm(to_host(array) - expected) / np.linalg.norm(expected)


def buffers(trainer):
    parameters = trainer.network.parameters
    return [parameters.value, parameters.grad, *(getattr(trainer, name) for name in STATE)]


@pytest.mark.parametrize(
    "cupy", ["sim", pytest.param("ptx", marks=pytest.mark.cuda_compile)], indirect=True
)
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-6), ("tf32", 3e-3), ("bf16", 3e-2)]
)
def test_steps_are_those_of_the_host(cupy, precision, tolerance):
    del cupy
    mine = device_trainer(precision=precision)
    with Workers(1) as workers:
        theirs = Trainer(CONFIG, DATASET, workers, reference)
        for step in (1, 2, 3) if precision == "fp32" else (1, 2):
            assert list(mine.advance(step)) == []
            expected = theirs.step(step)
            ((told, report),) = mine.flush()
            assert told == step
            assert report.loss == pytest.approx(expected.loss, rel=tolerance)
            assert report.grad_norm == pytest.approx(expected.grad_norm, rel=tolerance)
            assert report.lr == expected.lr
            assert [q is None for q in report.quartiles] == [q is None for q in expected.quartiles]
            optimised = zip(buffers(mine), buffers(theirs), strict=True)
            errors = [relative(array, exact) for array, exact in optimised]
            assert max(errors[:1] + errors[2:]) < tolerance, (step, errors)
            if precision != "fp32":
                assert max(errors) > 1e-6  # the precision asked for is the one in use


@pytest.mark.parametrize(
    ("predict", "variance", "objective"),
    [("x0", "beta", "simple"), ("v", "learned", "hybrid"), ("score", "beta_tilde", "vlb")],
)
def test_other_objectives_and_classes_are_trained_as_on_the_host(
    tolerance, predict, variance, objective
):
    """T is so small that t = 1, where the decoder is, occurs."""
    chain = DiffusionConfig(T=3, predict=predict, variance=variance, objective=objective)
    network = replace(CONFIG.network, classes=10, out_channels=1 + (variance == "learned"))
    names = tuple("0123456789")
    config = replace(CONFIG, diffusion=chain, network=network, class_names=names, label_dropout=0.4)
    mine = device_trainer(config)
    with Workers(1) as workers:
        theirs = Trainer(config, DATASET, workers, reference)
        for step in (1, 2):
            list(mine.advance(step))
            theirs.step(step)
    errors = [relative(a, b) for a, b in zip(buffers(mine), buffers(theirs), strict=True)]
    assert max(errors[:1] + errors[2:]) < tolerance


def test_times_drawn_by_importance_are_learnt_as_on_the_host(tmp_path, cupy, monkeypatch):
    """Long enough that what was learnt is used, and the run goes from device to device; the CPU
    convolves by the definition, so that the rounding of a fast way is not in what is compared.
    """
    del cupy

    monkeypatch.setattr(loop, "kernels_for", lambda _: reference)
    chain = DiffusionConfig(T=2, times="second-moment")
    config = replace(CONFIG, network=TINY, diffusion=chain, batch=8, train_steps=7)
    whole, _ = run(tmp_path / "whole", CPU, config=config)
    assert whole.extra["t_counts"].sum() == 7 * 8
    run(tmp_path / "run", GPU, config=config, steps=2)
    run(tmp_path / "run", CPU, config=config, steps=1, resume=True)
    mixed, seen = run(tmp_path / "run", GPU, config=config, resume=True)
    assert seen == [4, 5, 6, 7]
    assert_close(mixed, whole, 1e-6, but_biases_of_keys(whole))
    np.testing.assert_array_equal(mixed.extra["t_counts"], whole.extra["t_counts"])
    np.testing.assert_allclose(mixed.extra["t_history"], whole.extra["t_history"], rtol=1e-5)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "run")]
    for mine, expected in zip(*(text.splitlines() for text in metrics), strict=True):
        assert json.loads(mine)["loss"] == pytest.approx(json.loads(expected)["loss"], rel=1e-5)


def but_biases_of_keys(checkpoint):
    """Softmax does not see them: their gradient is rounding alone, and Adam makes steps of it."""
    assert TINY.qkv_order == "qkv first"
    parts = []
    for name, shape in checkpoint.parameters:
        seen = np.ones(math.prod(shape), bool)
        if name.endswith("qkv.bias"):
            seen[len(seen) // 3 : 2 * len(seen) // 3] = False
        parts.append(seen)
    return np.concatenate(parts)


def test_within_an_epoch_nothing_is_copied_from_the_host(cupy):
    many = Dataset("many", np.repeat(DATASET.images, 5, axis=0))
    trainer = DeviceTrainer(CONFIG, many, cuda_runtime())
    list(trainer.advance(1))
    uploads = cupy.uploads()
    for step in (2, 3, 4):
        list(trainer.advance(step))
    assert cupy.uploads() == uploads > 0
    for step in (5, 6, 7):  # the second epoch's order of the images
        list(trainer.advance(step))
    assert cupy.uploads() == uploads + 1


def test_a_step_that_failed_leaves_nothing_in_the_next(cupy):
    """It may end between its backward and the gathering of what that found."""
    del cupy
    clean, dirty = device_trainer(), device_trainer()
    for p, slot in zip(dirty.network.parameters, dirty._slots, strict=True):
        slot.taken = p.value + 1
    for trainer in (clean, dirty):
        list(trainer.advance(1))
    for mine, expected in zip(buffers(dirty), buffers(clean), strict=True):
        np.testing.assert_array_equal(to_host(mine), to_host(expected))


def test_a_step_uses_up_what_its_forward_saved(cupy, monkeypatch):
    del cupy
    left = used_up.watched(monkeypatch)
    list(device_trainer().advance(1))
    assert left
    assert not any(left)


def test_what_is_not_finite_is_told_with_its_step_and_nothing_is_updated(cupy):
    del cupy
    trainer = device_trainer()
    for step in (1, 2):
        list(trainer.advance(step))
    trainer.network.parameters.value[0] = np.nan
    before = [to_host(array) for array in buffers(trainer)]
    for step in (3, 4, 5):
        list(trainer.advance(step))
    reports = trainer.flush()
    assert [next(reports)[0], next(reports)[0]] == [1, 2]
    with pytest.raises(NonFiniteError, match="step 3"):
        next(reports)
    after = [to_host(array) for array in buffers(trainer)]
    for name, a, b in zip(
        ("value", *STATE), before[:1] + before[2:], after[:1] + after[2:], strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_reports_come_late_but_all_and_in_order(cupy):
    """With a network of almost nothing, more steps than the device keeps losses of."""
    del cupy
    trainer = device_trainer(replace(CONFIG, network=TINY, batch=1))
    trainer._runtime.record = recorded_without_network(trainer)
    told = [[step for step, _ in trainer.advance(number)] for number in range(1, 3 * ROWS + 6)]
    late = ROWS + AHEAD
    assert told == [[]] * late + [[step] for step in range(1, 3 * ROWS + 6 - late)]
    assert [step for step, _ in trainer.flush()] == list(range(3 * ROWS + 6 - late, 3 * ROWS + 6))
    assert list(trainer.flush()) == []


def recorded_without_network(trainer):
    """The update alone: what reports are made of."""

    def record(_work):
        def apply():
            trainer._updates.apply(trainer._gradients.partial_squares)

        apply()
        return apply

    return record


class Stopper:
    def __init__(self, steps):
        self.left, self.seen = steps, []

    def after_step(self, step, _report):
        self.seen.append(step)

    def asked(self):
        self.left -= 1
        return self.left == 0


def run(path, execution, *, config=CONFIG, steps=-1, resume=False):
    stopper = Stopper(steps)
    hooks = loop.Hooks(stopper.after_step, stopper.asked)
    if resume:
        directory = RunDirectory.open(path)
        checkpoint = directory.latest_checkpoint().checkpoint
    else:
        directory, checkpoint = RunDirectory.create(path, config.to_json()), None
    loop.train(config, DATASET, directory, execution, hooks, checkpoint)
    return directory.latest_checkpoint().checkpoint, stopper.seen


CPU = loop.Execution(threads=1, save_every=0, preview_every=0)
GPU = CPU._replace(device="cuda")


def assert_close(a, b, tolerance, which=slice(None)):
    assert (a.step, a.parameters, a.config) == (b.step, b.parameters, b.config)
    for name in ("value", *STATE):
        assert relative(getattr(a, name)[which], getattr(b, name)[which]) < tolerance, name


def test_a_run_goes_from_device_to_device(tmp_path, cupy):
    """Two steps on the GPU, one on the CPU, two on the GPU: the run of the CPU alone."""
    del cupy
    whole, _ = run(tmp_path / "whole", CPU)
    _, seen = run(tmp_path / "run", GPU, steps=2)
    assert seen == [1, 2]
    _, seen = run(tmp_path / "run", CPU, steps=1, resume=True)
    assert seen == [3]
    mixed, seen = run(tmp_path / "run", GPU, resume=True)
    assert seen == [4, 5]
    assert_close(mixed, whole, 1e-6)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 5


def test_on_a_gpu_interrupting_saving_and_previewing_change_no_bit(tmp_path, cupy, monkeypatch):
    del cupy
    monkeypatch.setattr(loop, "PREVIEW_IMAGES", 2)
    monkeypatch.setattr(loop, "PREVIEW_STEPS", 2)
    whole, _ = run(tmp_path / "whole", GPU)
    run(tmp_path / "run", GPU._replace(save_every=2, preview_every=2), steps=3)
    resumed, _ = run(tmp_path / "run", GPU, resume=True)
    assert_close(resumed, whole, 1e-30)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 1


def test_a_model_samples_alike_on_both_devices(tmp_path, cupy):
    del cupy
    checkpoint, _ = run(tmp_path / "run", CPU)
    mine = from_checkpoint(checkpoint, device="cuda").sample(3, steps=4)
    np.testing.assert_array_equal(mine, from_checkpoint(checkpoint).sample(3, steps=4))
    rough = from_checkpoint(checkpoint, device="cuda", precision="bf16").sample(3, steps=4)
    assert 0 < np.abs(rough.astype(int) - mine).max() < 64
