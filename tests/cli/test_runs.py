"""``tinyddpm runs``: what is listed, what is compared, and what damage does to it: nothing."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyddpm.cli.sparkline import BARS, sparkline
from tinyddpm.errors import CheckpointError
from tinyddpm.training.config import fit_to, recipe
from tinyddpm.training.overview import Loss, losses, mean_losses, overview, part_ends
from tinyddpm.training.run_directory import RunDirectory

CONFIG = replace(recipe("glyphs", "glyphs"), train_steps=100)


def make(name, *, step=0, saved=(), config=CONFIG, loss=lambda step: 1.0 / step):
    """A run directory as training leaves it, but for the arrays."""
    run = RunDirectory.create(Path("runs") / name, config.to_json())
    for number in range(1, step + 1):
        run.append_metrics({"step": number, "loss": loss(number), "seconds": 0.0})
    for number in saved:
        zipfile.ZipFile(run.checkpoints / f"step-{number:08d}.npz", "w").close()
    return run


def listed(cli):
    code, out, err = cli("runs", "--json")
    assert code == 0, err
    return {Path(entry["run"]).name: entry for entry in json.loads(out)}


def test_states_steps_and_losses(cli):
    make("done", step=100, saved=[0, 100])
    make("stopped", step=70, saved=[0, 40])
    make("young")
    running = make("running", step=70, saved=[0, 40])
    with running.lock():
        found = listed(cli)
    states = {name: (entry["state"], entry["step"]) for name, entry in found.items()}
    assert states == {
        "done": ("finished", 100),
        "stopped": ("stopped", 40),
        "young": ("stopped", 0),
        "running": ("running", 70),
    }
    assert found["running"]["loss"] == pytest.approx(np.mean([1 / n for n in range(21, 71)]))
    assert found["young"]["loss"] is None
    assert all(entry["train_steps"] == 100 for entry in found.values())
    with running.lock():  # looking does not keep it
        pass
    assert listed(cli)["running"]["state"] == "stopped"


def test_a_run_that_had_to_go_back_is_where_it_goes_on_from(cli):
    run = make("back", step=90, saved=[0, 80, 90, 100])
    (run.checkpoints / "latest").write_text("step-00000090.npz\n")
    assert (listed(cli)["back"]["state"], listed(cli)["back"]["step"]) == ("stopped", 90)
    (run.checkpoints / "step-00000090.npz").unlink()
    assert (listed(cli)["back"]["state"], listed(cli)["back"]["step"]) == ("finished", 100)


def test_the_table_begins_with_the_run_written_last(cli):
    for age, name in enumerate(["new", "last-but-one", "first"]):  # not the order of the names
        run = make(name, step=1)
        for path in (run.metrics, run.path / "config.json"):
            os.utime(path, (path.stat().st_mtime - 4000 * age,) * 2)
    code, out, _ = cli("runs")
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split() == ["run", "data", "preset", "step", "state", "loss", "written"]
    assert [row.split()[0] for row in rows] == ["runs/new", "runs/last-but-one", "runs/first"]
    assert rows[1].split()[1:6] == ["glyphs", "glyphs", "0/100", "stopped", "1.0000"]
    assert rows[1].endswith("1h06m ago")


def test_no_runs_are_no_mistake(cli):
    code, out, err = cli("runs")
    assert (code, out) == (0, "")
    assert "tinyddpm train" in err
    assert cli("runs", "--json")[1] == "[]\n"


DAMAGE = {
    "no config": lambda run: (run.path / "config.json").unlink(),
    "config cut short": lambda run: (run.path / "config.json").write_text('{"data": "gly'),
    "config a list": lambda run: (run.path / "config.json").write_text("[]"),
    "config of another": lambda run: (run.path / "config.json").write_text('{"data": 1}'),
    "config a folder": lambda run: (
        [(run.path / "config.json").unlink(), (run.path / "config.json").mkdir()]
    ),
    "no checkpoints": lambda run: run.checkpoints.rename(run.path / "elsewhere"),
    "checkpoint cut short": lambda run: run.saved()[0].write_bytes(b"PK\3\4"),
    "metrics a folder": lambda run: [run.metrics.unlink(), run.metrics.mkdir()],
    "train_steps a word": lambda run: (run.path / "config.json").write_text(
        json.dumps({**CONFIG.to_json(), "train_steps": "many"})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damage_is_listed_and_hides_no_other_run(cli, damage):
    make("sound", step=100, saved=[100])
    damage(make("broken", step=3, saved=[3]))
    found = listed(cli)
    assert found["broken"]["state"] == "damaged"
    assert found["broken"]["cause"]
    assert found["sound"]["state"] == "finished"
    code, out, err = cli("runs")
    assert code == 0
    assert "runs/broken  damaged: " in out
    assert "Traceback" not in err
    code, out, err = cli("runs", "compare", "runs/sound", "runs/broken")
    assert (code, out) == (4, "")
    assert "runs/broken is not a sound run" in err


@pytest.mark.parametrize("order", [1, -1])
def test_a_missing_run_is_told_as_everywhere(cli, order):
    make("sound", step=100, saved=[100])
    code, out, err = cli("runs", "compare", *["runs/sound", "runs/nowhere"][::order])
    assert (code, out) == (2, "")
    assert "there is no run in runs/nowhere" in err


def test_folders_of_others_are_listed_and_files_are_not(cli):
    make("sound")
    Path("runs/empty").mkdir()
    Path("runs/.hidden").mkdir()
    Path("runs/notes.txt").write_text("x")
    found = listed(cli)
    assert found.keys() == {"sound", "empty"}
    assert found["empty"]["state"] == "damaged"


def test_a_folder_of_runs_is_no_damaged_run(cli):
    """Such as ``bench --time-to-quality`` leaves: a run and a record for each seed."""
    make("time-to-quality-mnist/seed-0", step=100, saved=[100])
    make("time-to-quality-mnist/seed-1", step=3)
    Path("runs/time-to-quality-mnist/seed-0.json").write_text("{}")
    make("alone")
    make("alone/inside")
    code, out, _ = cli("runs")
    assert code == 0
    assert "damaged" not in out
    listed_runs = sorted(line.split()[0] for line in out.splitlines()[1:])
    seeds = [f"runs/time-to-quality-mnist/seed-{seed}" for seed in range(2)]
    assert listed_runs == ["runs/alone", *seeds]
    assert cli("runs", "compare", "time-to-quality-mnist/seed-0", "alone")[0] == 0


def test_torn_and_foreign_lines_of_metrics_are_left_out(cli):
    run = make("torn", step=2)
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 3, "loss": NaN}\n{"step": "x", "loss": 1}\n[1]\n\xff\xfe\n')
        file.write(
            b'{"step": -4, "loss": 1}\n{"loss": 1}\n{"step": 5, "loss": 0.25}\n{"step": 6, "l'
        )
    assert losses(run) == [Loss(1, 1.0), Loss(2, 0.5), Loss(5, 0.25)]
    assert listed(cli)["torn"]["state"] == "stopped"


def test_the_end_of_long_metrics_is_enough(cli):
    run = make("long", step=3000, saved=[100])
    assert run.metrics.stat().st_size > 2 * 64 * 1024
    assert losses(run, tail=64 * 1024)[-50:] == losses(run)[-50:]
    assert listed(cli)["long"]["loss"] == pytest.approx(np.mean([1 / n for n in range(2951, 3001)]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["config.json", "metrics.jsonl", "lock"]), content=st.binary())
def test_no_bytes_make_it_crash(cli, name, content):
    if not Path("runs/any").exists():
        make("any", step=1)
    path = Path("runs/any") / name
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(content)
    assert listed(cli).keys() == {"any"}
    path.write_bytes(before)


def test_two_runs_side_by_side(cli):
    make("a", step=80, saved=[80], loss=lambda step: 1.0 if step <= 40 else 0.5)
    make("b", step=40, saved=[40], loss=lambda _: 0.1, config=replace(CONFIG, lr=0.5, batch=8))
    code, out, _ = cli("runs", "compare", "runs/a", "runs/b", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["differing"] == {"batch": [64, 8], "lr": [0.002, 0.5]}
    assert [part["to"] for part in found["losses"]] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert [part["from"] for part in found["losses"]] == [1, 11, 21, 31, 41, 51, 61, 71]
    one, other = zip(*(part["means"] for part in found["losses"]), strict=True)
    assert one == pytest.approx([1.0] * 4 + [0.5] * 4)
    assert other[:4] == pytest.approx([0.1] * 4)
    assert other[4:] == (None,) * 4
    lines = cli("runs", "compare", "runs/a", "runs/b")[1].splitlines()
    assert ["batch", "64", "8"] in [line.split() for line in lines]
    assert ["step", "80/100", "40/100"] in [line.split() for line in lines]
    assert lines[-2] == f"{BARS[-1] * 20}{BARS[5] * 20}  runs/a"
    assert lines[-1] == f"{BARS[0] * 20}{' ' * 20}  runs/b"
    assert cli("runs", "compare", "runs/b", "runs/a")[1].splitlines()[-2:] == lines[:-3:-1]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (replace(CONFIG, diffusion=replace(CONFIG.diffusion, predict="v")), True),
        (replace(CONFIG, data="mnist"), True),
        (fit_to(CONFIG, (1, 16, 16, 1), ("cat", "dog")), True),
        (replace(CONFIG, seed=1), False),
    ],
    ids=["chain", "data", "classes", "seed"],
)
def test_losses_of_other_chains_data_or_classes_are_said_to_mean_something_else(cli, other, told):
    make("a", step=2)
    make("b", step=2, config=other)
    said = cli("runs", "compare", "runs/a", "runs/b")[1]
    assert ("are not comparable" in said) == told
    assert "the same settings" not in said
    assert "the same settings" in cli("runs", "compare", "runs/a", "runs/a")[1]


@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_the_weight_of_the_bound_matters_to_the_hybrid_objective_alone(cli, variance):
    for name, weight in (("a", 0.001), ("b", 2.0)):
        chain = replace(CONFIG.diffusion, variance=variance, vlb_weight=weight)
        make(name, step=2, config=replace(CONFIG, diffusion=chain))
    said = cli("runs", "compare", "runs/a", "runs/b")[1]
    assert "vlb_weight" in said
    assert ("are not comparable" in said) == (variance == "learned")


def test_a_flag_in_the_wrong_place_is_not_ignored(cli):
    make("a")
    code, out, err = cli("runs", "--json", "compare", "runs/a", "runs/a")
    assert (code, out) == (2, "")
    assert "compare A B --json" in err


def test_runs_without_a_step_can_be_compared(cli):
    make("a")
    code, out, _ = cli("runs", "compare", "runs/a", "runs/a")
    assert code == 0
    assert "–" in out


@pytest.mark.usefixtures("cli")
def test_what_is_no_run_is_refused():
    with pytest.raises(CheckpointError, match="no run in nowhere"):
        overview(Path("nowhere"))


@given(end=st.integers(0, 300), parts=st.integers(1, 50))
def test_the_means_are_those_of_the_parts(end, parts):
    ends = part_ends(end, parts)
    assert len(ends) == min(end, parts)
    assert sorted({0, *ends}) == [0, *ends]  # none is empty
    assert not end or ends[-1] == end
    curve = [Loss(step, step**2) for step in range(1, end + 1, 2)]
    expected = [
        [entry.loss for entry in curve if before < entry.step <= last]
        for before, last in zip([0, *ends], ends, strict=False)
    ]
    assert mean_losses(curve, end, parts) == [np.mean(e) if e else None for e in expected]


def test_bars_are_logarithmic():
    assert sparkline([1, 10, 100, None, 1000], 1, 1000) == f"{BARS[0]}{BARS[2]}{BARS[5]} {BARS[7]}"
    assert sparkline([0.0, 5000.0], 1, 1000) == BARS[0] + BARS[7]
    assert sparkline([1.0, 1.0], 1, 1) == BARS[0] * 2
    assert sparkline([-1.0], -1, -1) == BARS[0]
