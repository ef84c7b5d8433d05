"""``tinyddpm bench --time-to-quality`` as a user meets it."""

import json
from dataclasses import replace

import pytest
from small_quality import CHUNK, make_small

from tinyddpm.cli import bench_quality
from tinyddpm.cli.bench_quality import _notes, _table
from tinyddpm.evaluation.classifier import shipped

QUALITY = ["bench", "--time-to-quality"]
QUICK = ["--train-steps", 2, "--samples", CHUNK, "--steps", 2, "--threads", 1]


@pytest.fixture
def quality(cli, monkeypatch, tmp_path):
    """Run the measurement on stand-ins for MNIST."""
    monkeypatch.setenv("COLUMNS", "200")
    data = ["--data-dir", make_small(monkeypatch, tmp_path / "mnist")]
    return lambda *args: cli(*QUALITY, *QUICK, *data, *args)


def test_the_table_is_on_stdout_and_the_rest_is_not(quality, tmp_path):
    code, out, err = quality("--seeds", 2)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("preset mnist on MNIST: 2 steps of 4 images, 8 in all; ")
    assert ", 1 of " in lines[1]
    assert "NumPy" in lines[1]
    assert f"judged on {CHUNK} samples of 2 steps, ancestral" in lines[2]
    assert shipped().sha256[:16] in lines[2]
    rows = {line.split()[0]: line.split() for line in lines[4:10]}
    assert list(rows) == ["seed", "0", "1", "mean", "spread", "real"]
    for column in range(1, 7):
        one, other, mean = (number(rows[name][column]) for name in ("0", "1", "mean"))
        assert mean == pytest.approx((one + other) / 2, abs=0.11)
    assert rows["real"][1:3] == ["1.00", "1.00"]
    assert " s (" in lines[11]
    assert "± " in lines[11]
    assert "R is defined at 10,000" in lines[-1]
    assert "training seed 1" in err
    assert "sampling seed 1" in err
    folder = tmp_path / "runs" / "time-to-quality-mnist"
    assert "runs and records are in runs/time-to-quality-mnist" in err
    assert sorted(path.name for path in folder.glob("*.json")) == ["seed-0.json", "seed-1.json"]
    assert "mean of the last 2 steps" in out


def number(cell):
    """What a cell of the table holds."""
    return float(cell.strip("%").replace(",", ""))


def test_json_holds_the_records_and_their_summary(quality, tmp_path):
    code, out, err = quality("--seeds", 1, "--out", "here", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["seeds"] == [json.loads((tmp_path / "here" / "seed-0.json").read_text())]
    (seed,) = found["seeds"]
    assert found["summary"]["seconds"] == {"mean": seed["seconds"], "spread": None}
    assert found["summary"]["R cfd-400"]["mean"] == seed["verdict"]["cfd"]["cfd-400"]["R"]
    assert set(found["summary"]) == set(bench_quality.COLUMNS)


def test_asked_again_it_tells_the_same_without_measuring(quality, monkeypatch):
    args = ["--seeds", 1]
    _, first, _ = quality(*args)
    monkeypatch.setattr(
        bench_quality.TimeToQuality, "_complete", lambda _self, _seed, record: record
    )
    code, out, err = quality(*args)
    assert (code, out) == (0, first)
    assert "training" not in err


def test_one_seed_has_no_spread_and_enough_samples_need_no_excuse(quality, monkeypatch):
    kept = []
    monkeypatch.setattr(bench_quality, "_table", lambda records: kept.extend(records) or ["ok"])
    quality("--seeds", 1)
    (record,) = kept
    assert "±" not in next(_notes(kept))
    spread = next(line for line in _table(kept) if line.startswith("spread"))
    assert spread == "spread"
    enough = replace(record, conditions={**record.conditions, "samples": 10_000})
    assert not any("is defined at" in line for line in _notes([enough]))
    assert f"{record.images / record.seconds:,.0f} images/s" in next(_notes(kept))


def test_another_configuration_in_the_same_folder_is_refused(quality):
    assert quality("--seeds", 1)[0] == 0
    code, out, err = quality("--seeds", 1, "--train-steps", 3)
    assert (code, out) == (2, "")
    assert "seed-0.json was measured under other conditions" in err
    assert "config.train_steps: 2 → 3" in err
    assert "another --out" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--time-to-quality", "--batch", 4], "--batch means nothing to --time-to-quality"),
        (["--time-to-quality", "--no-ops"], "--ops means nothing to --time-to-quality"),
        (["--time-to-quality", "--against", "torch"], "--against means nothing"),
        (["--time-to-quality", "--preset", "cifar10"], "MNIST alone"),
        (["--time-to-quality", "--steps", 0], "--steps must be from 1 to 1000"),
        (["--time-to-quality", "--samples", 1], "--samples"),
        (["--time-to-quality", "--samples", 60_001], "--samples"),
        (["--time-to-quality", "--seeds", 0], "--seeds"),
        (["--time-to-quality", "--data-dir", "gone"], "gone lacks train-images"),
        (["--seeds", 2], "--seeds means nothing to bench without --time-to-quality"),
        (["--train-steps", 2], "--train-steps means nothing to bench without"),
        (["--out", "here"], "--out means nothing to bench without"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(cli, args, words, monkeypatch, tmp_path):
    monkeypatch.setattr("tinyddpm.cli.bench_speed.measure", None)
    code, out, err = cli("bench", *args)
    assert code in {2, 3}
    assert out == ""
    assert words in err
    assert not (tmp_path / "runs").exists()
