"""The clock runs while data are read and a network trains, and never otherwise."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from small_quality import BATCH, CHUNK, TEST, TRAIN, make_small, small_recipe

from tinyddpm.benchmark import quality_record, time_to_quality
from tinyddpm.benchmark.flops import forward_products
from tinyddpm.benchmark.quality_record import Record, Verdict, summary
from tinyddpm.benchmark.quality_settings import QualitySettings
from tinyddpm.benchmark.time_to_quality import TimeToQuality, Watcher
from tinyddpm.errors import CheckpointError, DataError, UsageError
from tinyddpm.evaluation.classifier import shipped
from tinyddpm.evaluation.sample_quality import measure
from tinyddpm.parallel import Workers
from tinyddpm.training import loop
from tinyddpm.training.kept_samples import KeptSamples
from tinyddpm.training.run_directory import RunDirectory

STEPS = 3
SAMPLES = CHUNK + 8
SMALL = QualitySettings(train_steps=STEPS, seeds=1, samples=SAMPLES, steps=2, threads=1)


class Silent:
    """Is told, and tells nobody."""

    def advance(self, detail=""):
        pass


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Makes a measurement in one folder, its settings those of SMALL but for some."""
    mnist = make_small(monkeypatch, tmp_path / "mnist")
    said = []

    @contextmanager
    def show(_label, _steps):
        yield Silent()

    def make(**changes):
        settings = SMALL._replace(data_dir=mnist, **changes)
        return TimeToQuality(settings, tmp_path / "out", Watcher(said.append, show))

    make.out, make.mnist, make.said = tmp_path / "out", mnist, said
    return make


@pytest.fixture
def slow(monkeypatch):
    """Makes a call take so many seconds more, by the measurement's clock, and no other time."""
    now = [0.0]
    monkeypatch.setattr(time_to_quality, "perf_counter", lambda: now[0])

    def delay(owner, name, seconds):
        quick = getattr(owner, name)

        def slowly(*args, **options):
            now[0] += seconds
            return quick(*args, **options)

        monkeypatch.setattr(owner, name, slowly)

    return delay


@pytest.fixture
def trained(monkeypatch):
    """The seeds whose training begins from now on."""
    seeds = []
    train = loop.train

    def spying(config, *args):
        seeds.append(config.seed)
        return train(config, *args)

    monkeypatch.setattr(loop, "train", spying)
    return seeds


def stopping(monkeypatch, owner, name, *, at):
    """Stop the process, as Ctrl-C does, when a method is called for the ``at``-th time."""
    calls = []
    going = getattr(owner, name)

    def stopped(*args, **options):
        calls.append(name)
        if len(calls) == at:
            raise KeyboardInterrupt
        return going(*args, **options)

    monkeypatch.setattr(owner, name, stopped)


def test_the_clock_covers_reading_and_training_and_nothing_else(bench, slow):
    slow(time_to_quality.data, "load", 1)
    slow(loop.Trainer, "advance", 10)
    slow(RunDirectory, "save_checkpoint", 1000)  # before the first step and after the last
    slow(time_to_quality, "locate", 1e4)
    slow(RunDirectory, "create", 1e5)
    slow(KeptSamples, "collect", 1e6)
    slow(time_to_quality, "measure", 1e7)
    for record in bench(seeds=2).records():
        assert record.reading == 1
        assert record.seconds == 1 + 10 * STEPS + 2 * 1000


def test_nothing_is_drawn_or_saved_on_the_way(bench, monkeypatch):
    executions = []
    train = loop.train

    def spying(config, dataset, run, execution, hooks):
        executions.append(execution)
        return train(config, dataset, run, execution, hooks)

    monkeypatch.setattr(loop, "train", spying)
    bench().records()
    (execution,) = executions
    assert (execution.save_every, execution.preview_every) == (0, 0)
    assert execution.device == "cpu"


def test_a_download_is_not_timed(bench, slow, monkeypatch):
    monkeypatch.setattr(time_to_quality, "locate", lambda *_: {})
    loads = []
    load = time_to_quality.data.load
    monkeypatch.setattr(
        time_to_quality.data, "load", lambda *a, **k: (loads.append(k["split"]), load(*a, **k))[1]
    )
    slow(time_to_quality.data, "load", 1)
    (record,) = bench().records()
    assert loads[:3] == ["train", "test", "train"]
    assert record.reading == 1


def test_a_record_says_what_was_done(bench):
    (record,) = bench().records()
    metrics = (bench.out / "seed-0" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in metrics]
    assert len(losses) == STEPS
    assert record.loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert record.images == STEPS * BATCH
    network = small_recipe("mnist", "mnist").network
    assert record.flop == 3 * STEPS * BATCH * forward_products(network).total
    assert 0 < record.reading < record.seconds
    machine = record.conditions["machine"]
    assert {"processor", "cores", "blas", "numpy", "python", "tinyddpm"} <= set(machine)
    assert record.conditions["classifier"]["sha256"] == shipped().sha256


def test_the_load_is_told_before_and_after_and_is_no_condition(bench, monkeypatch):
    rising = iter(range(100))
    monkeypatch.setattr(time_to_quality.os, "getloadavg", lambda: (next(rising), 0.0, 0.0))
    (record,) = bench().records()
    assert record.load[0] < record.load[1]
    assert bench().records() == [record]


def test_the_loss_is_that_of_the_last_steps(bench, monkeypatch):
    monkeypatch.setattr(time_to_quality, "LAST", 2)
    (record,) = bench().records()
    metrics = (bench.out / "seed-0" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in metrics]
    assert record.loss == pytest.approx(np.mean(losses[-2:]), rel=1e-12)


def test_the_verdict_is_on_the_kept_samples_of_the_last_weights(bench):
    first, second = bench(seeds=2).records()
    assert first.verdict != second.verdict
    for record in (first, second):
        samples = bench.out / f"seed-{record.seed}" / "samples"
        (folder,) = samples.glob(f"quality-{STEPS}-2-{record.seed}-*")
        chunks = [np.load(path)["images"] for path in sorted(folder.glob("chunk-*.npz"))]
        images = np.concatenate(chunks)[:SAMPLES]
        with Workers(1) as workers:
            expected = measure(images, TRAIN, TEST, shipped(), workers)
        assert record.verdict == Verdict.of(expected)
        assert record.verdict.cfd["cfd-84"]["R"] == expected.distances["cfd-84"].ratio
        assert record.verdict.black["samples"] == expected.samples.black.mean


def test_what_there_is_is_not_measured_again(bench, trained):
    first = bench(seeds=2).records()
    files = {path: path.read_bytes() for path in bench.out.glob("seed-*.json")}
    assert trained == [0, 1]
    assert bench(seeds=3).records()[:2] == first
    assert trained == [0, 1, 2]
    assert all(path.read_bytes() == content for path, content in files.items())
    (bench.mnist / "train-images-idx3-ubyte").unlink()
    assert bench(seeds=2).records() == first  # it needs nothing for that


def test_stopped_between_training_and_verdict_it_goes_on_there(bench, trained, monkeypatch):
    whole = bench().records()
    for path in (*bench.out.rglob("chunk-*.npz"), bench.out / "seed-0.json"):
        path.unlink()
    trained.clear()
    with monkeypatch.context() as patch:
        stopping(patch, time_to_quality, "measure", at=1)
        with pytest.raises(KeyboardInterrupt):
            bench().records()
    kept = json.loads((bench.out / "seed-0.json").read_text())
    assert kept["verdict"] is None
    (again,) = bench().records()
    assert trained == [0]
    assert again.seconds == kept["seconds"]
    assert again.verdict == whole[0].verdict


def test_a_training_that_was_stopped_begins_anew(bench, slow, monkeypatch):
    slow(loop.Trainer, "advance", 10)
    with monkeypatch.context() as patch:
        stopping(patch, loop.Trainer, "advance", at=STEPS)
        with pytest.raises(KeyboardInterrupt):
            bench().records()
    assert not list(bench.out.glob("seed-*.json"))
    (record,) = bench().records()
    assert any("its clock must not stop" in line for line in bench.said)
    assert record.seconds == 10 * STEPS
    metrics = (bench.out / "seed-0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [*range(1, STEPS + 1)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_steps": 2}, "config.train_steps: 3 → 2"),
        ({"preset": "mnist-1.7m"}, "config.preset: mnist → mnist-1.7m"),
        ({"samples": SAMPLES + 1}, f"samples: {SAMPLES} → {SAMPLES + 1}"),
        ({"steps": 3}, "sampling.steps: 2 → 3"),
        ({"threads": 2}, "threads: 1 → 2"),
    ],
)
def test_a_record_of_another_configuration_is_refused(bench, trained, changes, words):
    write_record(bench)
    with pytest.raises(UsageError, match=f"other conditions.*\ncause: .*{words}.*\ntry: another"):
        bench(**{"seeds": 2, **changes}).records()
    assert trained == []


def test_a_record_of_another_machine_is_refused(bench, trained):
    path = write_record(bench)
    kept = json.loads(path.read_text())
    kept["conditions"]["machine"]["processor"] = "abacus"
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match=r"machine\.processor: abacus → "):
        bench(seeds=2).records()
    assert trained == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"verdict": null, "load": [0, 0]}'])
def test_what_is_no_record_is_refused(bench, trained, content):
    write_record(bench).write_text(content)
    with pytest.raises(UsageError, match="is not a record"):
        bench(seeds=2).records()
    assert trained == []


def test_a_record_is_a_plain_file(bench, trained):
    path = write_record(bench)
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(UsageError, match="is not a record") as refused:
        bench(seeds=2).records()
    assert "Not a plain file" in refused.value.cause
    assert trained == []


def test_another_run_in_the_folder_is_left_alone(bench, trained):
    config = replace(small_recipe("mnist", "mnist"), train_steps=99)
    run = RunDirectory.create(bench.out / "seed-0", config.to_json())
    with pytest.raises(UsageError, match="holds another run"):
        bench().records()
    assert trained == []
    assert run.read_config()["train_steps"] == 99


def test_weights_of_an_earlier_step_are_not_judged(bench):
    (record,) = bench().records()
    quality_record.write(bench.out / "seed-0.json", replace(record, verdict=None))
    (bench.out / "seed-0" / "checkpoints" / f"step-{STEPS:08d}.npz").unlink()
    with pytest.raises(CheckpointError, match=f"is at step 0, and not {STEPS}"):
        bench().records()


def test_other_images_than_those_of_mnist_are_refused(bench, trained):
    path = bench.mnist / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not the training images of MNIST"):
        bench().records()
    assert trained == []


def test_missing_test_images_are_missed_before_the_training(bench, trained):
    (bench.mnist / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-images"):
        bench().records()
    assert trained == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "cifar10"}, "MNIST alone"),
        ({"preset": "glyphs"}, "16×16×1"),
        ({"steps": 0}, "from 1 to 1000"),
        ({"steps": 1001}, "from 1 to 1000"),
    ],
)
def test_what_cannot_be_is_refused_at_once(changes, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        TimeToQuality(SMALL._replace(**changes), tmp_path / "out", Watcher(None, None))
    assert not (tmp_path / "out").exists()


def test_mean_and_spread_are_those_of_the_seeds():
    one = {"samples": 1.0, "real": 1.0}
    records = [
        Record(
            seed=seed,
            conditions={},
            begun="",
            seconds=seconds,
            reading=0.0,
            load=(0.0, 0.0),
            images=1,
            flop=1.0,
            loss=0.04,
            verdict=Verdict(cfd={"cfd-84": {**one, "R": seconds / 10}}, unsure=one, black=one),
        )
        for seed, seconds in enumerate((10.0, 12.0, 17.0))
    ]
    found = summary(records)
    assert found["seconds"] == pytest.approx((13.0, 13**0.5))
    assert found["R cfd-84"] == pytest.approx((1.3, 0.13**0.5))
    assert summary(records[:1])["seconds"] == (10.0, None)


def write_record(bench):
    """Write a record of seed 0 as if it had been measured, and return its path."""
    real = {"samples": 0.5, "real": 0.5}
    record = Record(
        seed=0,
        conditions=bench().conditions,
        begun="",
        seconds=1.0,
        reading=0.1,
        load=(0.0, 0.0),
        images=1,
        flop=1.0,
        loss=0.04,
        verdict=Verdict(cfd={"cfd-84": {**real, "R": 1.0}}, unsure=real, black=real),
    )
    bench.out.mkdir()
    path = bench.out / "seed-0.json"
    quality_record.write(path, record)
    return path
