"""``tinyddpm doctor``: everything is looked at, by itself."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinyddpm import machine
from tinyddpm.cli import doctor
from tinyddpm.ops.group_norm_silu import group_norm_silu
from tinyddpm.ops.kernels import reference
from tinyddpm.training.self_check import TOLERANCE, self_check


@pytest.fixture
def quick(monkeypatch):
    """The two probes that compute, without their work."""
    for name in ("speed", "cpu"):
        monkeypatch.setitem(doctor.PROBES, name, lambda: "well")


def test_a_report_of_this_machine(cli):
    code, out, err = cli("doctor", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.keys() == doctor.PROBES.keys()
    assert f"numpy {np.__version__}" in found["packages"]
    assert "pillow" in found["packages"]
    assert "GFLOP/s" in found["speed"]
    assert float(found["cpu"].split()[-1]) < 1e-4
    assert not any("FAILED" in text for text in found.values())


@pytest.mark.usefixtures("quick")
def test_the_text_has_a_paragraph_for_each(cli):
    code, out, _ = cli("doctor")
    assert code == 0
    begun = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert begun == list(doctor.PROBES)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", doctor.PROBES)
def test_what_fails_is_shown_and_stops_nothing(cli, monkeypatch, name):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setitem(doctor.PROBES, name, broken)
    code, out, err = cli("doctor", "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found.pop(name) == "FAILED: RuntimeError: no such thing"
    assert not any("FAILED" in text for text in found.values())


def test_wrong_kernels_are_found(cli, monkeypatch):
    def wrong(*args, **options):
        y, saved = group_norm_silu(*args, **options)
        return 1.01 * y, saved

    monkeypatch.setitem(doctor.PROBES, "speed", lambda: "well")
    table = replace(reference, group_norm_silu=wrong)
    monkeypatch.setattr("tinyddpm.training.self_check.kernels_for", lambda _: table)
    code, out, _ = cli("doctor")
    assert code == 1
    assert "FAILED: ArithmeticError" in out


def test_the_reference_itself_is_off_by_float32_alone(monkeypatch):
    monkeypatch.setattr("tinyddpm.training.self_check.kernels_for", lambda _: reference)
    assert 1e-8 < self_check() < 1e-2 * TOLERANCE


@pytest.mark.usefixtures("quick")
def test_the_folders_of_data_are_named(cli, monkeypatch, tmp_path):
    home = tmp_path / "home"
    for name, file in (("mnist", "t10k-labels-idx1-ubyte.gz"), ("cifar10", ".lock")):
        (home / "sets" / name).mkdir(parents=True)
        (home / "sets" / name / file).touch()
    (home / "sets" / "old").symlink_to(home / "gone")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TINYDDPM_DATA", str(home / "sets"))
    found = json.loads(cli("doctor", "--json")[1])
    assert found["data"].startswith("~/sets: mnist, old (")
    assert "not there yet (" in found["data"]
    assert "TINYDDPM_DATA=~/sets" in found["environment"].split(", ")
    assert str(home) not in json.dumps(found)


def test_a_folder_that_may_not_be_looked_into_counts(monkeypatch, tmp_path):
    def refuse(_):
        raise PermissionError

    assert not doctor._holds(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert doctor._holds(tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_home_that_is_the_root_changes_no_path(cli, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert json.loads(cli("doctor", "--json")[1])["runs"].startswith(str(Path.cwd()))


@pytest.mark.usefixtures("quick")
def test_a_broken_driver_is_told_in_its_own_words(cli, monkeypatch):
    def answer(*_, **__):
        return subprocess.CompletedProcess([], 9, stdout="", stderr="driver\nmismatch\n")

    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("subprocess.run", answer)
    assert json.loads(cli("doctor", "--json")[1])["gpu"] == "driver mismatch"


@pytest.mark.usefixtures("quick")
def test_no_cupy_is_no_failure(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, out, _ = cli("doctor", "--json")
    assert code == 0
    assert json.loads(out)["cuda"].startswith("CuPy is not installed")


def test_the_peak_of_memory_counts_what_is_touched():
    before = machine.peak_memory()
    held = np.ones(max(before, 2**27) // 8)
    assert machine.peak_memory() >= before + held.nbytes // 2 or machine.peak_memory() > held.nbytes
    assert machine.total_memory() > machine.peak_memory()


def test_a_peak_is_not_that_of_the_program_before():
    code = "from tinyddpm.machine import peak_memory; print(peak_memory())"
    held = np.ones(2**26)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 2**23 < int(done.stdout) < held.nbytes
