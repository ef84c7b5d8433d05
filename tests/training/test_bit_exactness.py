"""A run is a function of its configuration: threads, saves, previews and stops change no bit.

The network has dropout, the batch five shards, the data set an epoch of less than three steps.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinyddpm.data.glyphs import glyphs
from tinyddpm.errors import CheckpointError, NonFiniteError
from tinyddpm.figures.grid import grid, zoom_for
from tinyddpm.nn.config import UNetConfig
from tinyddpm.ops.kernels import reference
from tinyddpm.parallel import Workers
from tinyddpm.training import loop
from tinyddpm.training.config import DiffusionConfig, RunConfig
from tinyddpm.training.model import TrainedModel, from_checkpoint
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.shard import Shard
from tinyddpm.training.step import Trainer

STEPS = 12
CONFIG = RunConfig(
    data="glyphs",
    preset="tiny",
    network=UNetConfig(image_size=16, channels=(4, 8), attention_at=(8,), groups=2, dropout=0.2),
    diffusion=DiffusionConfig(T=20),
    batch=9,
    shard=2,
    train_steps=STEPS,
    lr=1e-2,
    warmup=3,
    ema_decay=0.9,
    flips=True,
)
DATASET = glyphs(n=23)


class StopAfter:
    """Asks to stop after some steps, as a signal would."""

    def __init__(self, steps):
        self.left = steps

    def after_step(self, *_):
        self.left -= 1

    def asked(self):
        return self.left == 0


def run_to(path, config=CONFIG, *, stop_after=-1, execution=None, resume=False):
    """Train in ``path`` and return the run's last checkpoint."""
    execution = execution or loop.Execution(threads=1, save_every=0, preview_every=0)
    stopper = StopAfter(stop_after)
    hooks = loop.Hooks(stopper.after_step, stopper.asked)
    if resume:
        run = RunDirectory.open(path)
        checkpoint = run.latest_checkpoint().checkpoint
    else:
        run, checkpoint = RunDirectory.create(path, config.to_json()), None
    loop.train(config, DATASET, run, execution, hooks, checkpoint)
    return run.latest_checkpoint().checkpoint


def losses(path):
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [(m["step"], m["loss"], m["grad_norm"]) for m in map(json.loads, lines)]


def assert_same_state(a, b):
    assert a.step == b.step
    for name in ("value", "ema", "adam_m", "adam_v"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The uninterrupted run on one thread, and its metrics."""
    path = tmp_path_factory.mktemp("golden") / "run"
    return run_to(path), losses(path)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(tmp_path, golden, threads):
    execution = loop.Execution(threads=threads, save_every=0, preview_every=0)
    assert_same_state(run_to(tmp_path / "run", execution=execution), golden[0])
    assert losses(tmp_path / "run") == golden[1]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 7, STEPS - 1])
def test_interrupting_and_resuming_changes_no_bit(tmp_path, golden, stop_after):
    stopped = run_to(tmp_path / "run", stop_after=stop_after)
    assert stopped.step == stop_after
    assert_same_state(run_to(tmp_path / "run", resume=True), golden[0])
    assert losses(tmp_path / "run") == golden[1]


def test_saving_and_previewing_change_no_bit(tmp_path, golden):
    execution = loop.Execution(threads=2, save_every=2, preview_every=5)
    assert_same_state(run_to(tmp_path / "run", execution=execution), golden[0])
    assert losses(tmp_path / "run") == golden[1]
    previews = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert previews == [f"step-{step:08d}.png" for step in (5, 10, STEPS)]


def test_the_blocks_of_an_update_change_no_bit(tmp_path, golden, monkeypatch):
    monkeypatch.setattr("tinyddpm.training.step._BLOCK", 1000)
    execution = loop.Execution(threads=2, save_every=0, preview_every=0)
    assert_same_state(run_to(tmp_path / "run", execution=execution), golden[0])
    assert golden[0].value.size > 3000


def test_a_stop_in_the_last_step_leaves_the_last_preview(tmp_path):
    execution = loop.Execution(threads=1, save_every=0, preview_every=5)
    run_to(tmp_path / "run", stop_after=STEPS, execution=execution)
    assert (tmp_path / "run" / "samples" / f"step-{STEPS:08d}.png").exists()


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path, golden):
    """Steps that were logged but not saved are done again, and logged once."""
    path = tmp_path / "run"
    run_to(path, stop_after=5)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 0.1}\n{"step": 7, "lo')
    assert_same_state(run_to(path, resume=True), golden[0])
    assert losses(path) == golden[1]


def test_a_prolonged_run_is_the_long_run(tmp_path, golden):
    run_to(tmp_path / "run", replace(CONFIG, train_steps=4))
    assert_same_state(run_to(tmp_path / "run", resume=True), golden[0])


def test_another_seed_gives_another_run(tmp_path, golden):
    other = run_to(tmp_path / "run", replace(CONFIG, seed=1))
    assert not np.array_equal(other.value, golden[0].value)


def test_the_average_follows_its_definition(tmp_path, monkeypatch):
    """The EMA is recomputed from the values that every step left behind."""
    values = []
    step = Trainer.step

    def recording(self, number):
        if number == 1:
            values.append(self.network.parameters.value.astype(np.float64))
        report = step(self, number)
        values.append(self.network.parameters.value.astype(np.float64))
        return report

    monkeypatch.setattr(Trainer, "step", recording)
    checkpoint = run_to(tmp_path / "run")
    average = values[0]
    for k, value in enumerate(values[1:], start=1):
        decay = min(0.9, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * value
    np.testing.assert_allclose(checkpoint.ema, average, atol=1e-6)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_stops_before_the_update(tmp_path, monkeypatch, what, poison):
    """The message says the step, and the time of the image whose loss it is; the last checkpoint is
    of the step before, or earlier.
    """
    before = {}
    gradient = Trainer._gradient

    def poisoned(self, step):
        result, times, weights = gradient(self, step)
        if step == 6:
            before["value"] = self.network.parameters.value.copy()
            before["trainer"], before["t"] = self, times[3]
            target = result if what == "loss" else self.network.parameters.grad
            target[3] = poison
        return result, times, weights

    monkeypatch.setattr(Trainer, "_gradient", poisoned)
    execution = loop.Execution(threads=1, save_every=2, preview_every=0)
    with pytest.raises(NonFiniteError, match="step 6") as refusal:
        run_to(tmp_path / "run", execution=execution)
    told = f"(images at t = [{before['t']}])" in refusal.value.cause
    assert told == (what == "loss")
    np.testing.assert_array_equal(before["trainer"].network.parameters.value, before["value"])
    assert RunDirectory.open(tmp_path / "run").latest_checkpoint().checkpoint.step == 4


def test_other_configurations_and_other_data_are_refused(tmp_path):
    checkpoint = run_to(tmp_path / "run", stop_after=1)
    loop.check_same_config(replace(CONFIG, train_steps=99, data_dir="/moved"), checkpoint)
    other = replace(CONFIG, lr=0.5, network=replace(CONFIG.network, dropout=0.0))
    with pytest.raises(CheckpointError) as refusal:
        loop.check_same_config(other, checkpoint)
    assert "lr: 0.01 → 0.5" in refusal.value.cause
    assert "network.dropout: 0.2 → 0.0" in refusal.value.cause
    with pytest.raises(CheckpointError, match="other data"):
        loop.check_same_data(glyphs(n=22), checkpoint)
    loop.check_same_data(DATASET, checkpoint)


def test_epochs_cover_all_images_once():
    with Workers(1) as workers:
        trainer = Trainer(CONFIG, DATASET, workers, reference)
        seen = np.concatenate([trainer._batch_indices(step) for step in range(1, 24)])
        again = np.concatenate([trainer._batch_indices(step) for step in range(23, 0, -1)])
    np.testing.assert_array_equal(again.reshape(23, 9)[::-1], seen.reshape(23, 9))
    for epoch in seen.reshape(9, 23):  # 23 steps of 9 images are 9 epochs of 23
        assert sorted(epoch.tolist()) == list(range(23))


def test_a_learned_variance_and_drawn_times_resume_to_the_bit(tmp_path):
    """The history of losses that draws t is part of the state; T is small, so that it is used."""
    diffusion = DiffusionConfig(T=3, schedule="cosine", variance="learned", times="second-moment")
    network = replace(CONFIG.network, out_channels=2)
    config = replace(CONFIG, diffusion=diffusion, network=network, train_steps=10)
    whole = run_to(tmp_path / "whole", config)
    assert whole.extra["t_counts"][1:].min() >= 10, "t was never drawn by importance"
    run_to(tmp_path / "parts", config, stop_after=7)
    parts = run_to(tmp_path / "parts", config, resume=True)
    assert_same_state(parts, whole)
    np.testing.assert_array_equal(parts.extra["t_history"], whole.extra["t_history"])


def test_a_network_that_is_told_classes_resumes_to_the_bit(tmp_path):
    network = replace(CONFIG.network, classes=10)
    names = tuple("0123456789")
    config = replace(CONFIG, network=network, class_names=names, label_dropout=0.5)
    whole = run_to(tmp_path / "whole", config)
    run_to(tmp_path / "parts", config, stop_after=5)
    assert_same_state(run_to(tmp_path / "parts", config, resume=True), whole)
    assert whole.config["class_names"] == list(names)


def test_labels_are_dropped_at_the_rate_asked_for():
    """Of 2,300 labels 690 ± 22 are dropped: five standard deviations, p = 6e-7."""
    config = replace(
        CONFIG,
        network=replace(CONFIG.network, classes=10),
        class_names=tuple("0123456789"),
        label_dropout=0.3,
    )
    with Workers(1) as workers:
        trainer = Trainer(config, DATASET, workers, reference)
    images, none = np.arange(23), np.empty(0)
    shards = [Shard(step, 0, 0, images, images, none, none) for step in range(100)]
    told = np.concatenate([trainer._work._labels(shard) for shard in shards])
    dropped = told == 10
    assert abs(dropped.sum() - 690) < 110
    np.testing.assert_array_equal(told[~dropped], np.tile(DATASET.labels, 100)[~dropped])


def test_a_run_that_another_process_took_further_is_not_taken_back(tmp_path):
    """The checkpoint was read before the lock was ours, and the other one has ended since."""
    run_to(tmp_path / "run", stop_after=3)
    run = RunDirectory.open(tmp_path / "run")
    stale = run.latest_checkpoint().checkpoint
    run_to(tmp_path / "run", resume=True)
    stopper, longer = StopAfter(-1), replace(CONFIG, train_steps=STEPS + 1)
    hooks = loop.Hooks(stopper.after_step, stopper.asked)
    for was, checkpoint in (("at step 3", stale), ("not begun", None)):
        with pytest.raises(CheckpointError, match=f"meanwhile\ncause: it was {was} and is now at"):
            loop.train(longer, DATASET, run, loop.Execution(threads=1), hooks, checkpoint)
    assert run.latest_checkpoint().checkpoint.step == STEPS
    assert run.read_config()["train_steps"] == STEPS
    assert len(losses(tmp_path / "run")) == STEPS


def test_a_signal_saves_and_draws_no_preview(tmp_path):
    execution = loop.Execution(threads=1, save_every=0, preview_every=1)
    run_to(tmp_path / "run", stop_after=2, execution=execution)
    (preview,) = (tmp_path / "run" / "samples").iterdir()
    assert preview.name == "step-00000001.png"
    side = CONFIG.network.image_size * (56 // CONFIG.network.image_size)  # shown larger
    with Image.open(preview) as picture:
        assert picture.size == (4 * side + 3, 4 * side + 3)


def test_the_seconds_are_those_of_all_steps_and_of_nothing_else(tmp_path, monkeypatch):
    """A run that goes on counts on; what a GPU has yet to do at a stop counts, too."""
    now = [0.0]

    def lasting(kind, name, seconds):
        function = getattr(kind, name)

        def timed(*args):
            now[0] += seconds
            return function(*args)

        monkeypatch.setattr(kind, name, timed)

    def flush(_):
        now[0] += 5
        yield from ()

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Trainer, "flush", flush)
    lasting(Trainer, "step", 10.25)
    lasting(RunDirectory, "append_metrics", 1000)
    lasting(RunDirectory, "save_checkpoint", 1000)
    run_to(tmp_path / "run", stop_after=3)
    assert run_to(tmp_path / "run", resume=True).seconds == STEPS * 10.25 + 2 * 5
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    assert seconds == [10.25 * step + 5 * (step > 3) for step in range(1, STEPS + 1)]


def test_a_preview_takes_no_more_threads_than_the_steps(tmp_path, monkeypatch):
    asked, sample = [], TrainedModel.sample

    def spied(model, n, **options):
        asked.append(options.get("threads"))
        return sample(model, n, **options)

    monkeypatch.setattr(TrainedModel, "sample", spied)
    execution = loop.Execution(threads=1, save_every=0, preview_every=1)
    run_to(tmp_path / "run", replace(CONFIG, train_steps=2), execution=execution)
    assert asked == [1, 1]


def test_a_preview_is_drawn_with_the_averaged_weights(tmp_path):
    """Sixteen images of the run's seed, from a random stream of their own."""
    execution = loop.Execution(threads=1, save_every=0, preview_every=3)
    config = replace(CONFIG, seed=1, train_steps=3)
    checkpoint = run_to(tmp_path / "run", config, execution=execution)
    images = from_checkpoint(checkpoint).sample(16, seed=1, stream="preview", threads=1)
    with Image.open(tmp_path / "run" / "samples" / "step-00000003.png") as picture:
        expected = np.asarray(grid(images, zoom=zoom_for(images.shape)))
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_prolonged_run_says_so_in_its_config(tmp_path):
    run_to(tmp_path / "run", replace(CONFIG, train_steps=2))
    run_to(tmp_path / "run", resume=True)
    assert RunDirectory.open(tmp_path / "run").read_config()["train_steps"] == STEPS
