"""Stopping a real process: the step is finished, the state saved, and the run goes on."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from select import select

import pytest

TRAIN = [sys.executable, "-m", "tinyddpm", "train", "--device", "cpu", "--batch", "4"]


# ruff: noqa: PLW1509  what is done in a process that begins is to set its signals, and no more


def heed_all():
    """In a process that begins: let it ignore no signal, though whoever runs the tests may."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


STARTED = []


@pytest.fixture(autouse=True)
def nothing_goes_on():
    """Also where a test fails: what trains for 100,000 steps is in the way of all that follow."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def start(folder, *args):
    process = subprocess.Popen(
        [*TRAIN, *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_all,
    )
    STARTED.append(process)
    return process


def on_a_terminal(folder, *command):
    """Start a command on a terminal of its own; it and what its user sees of it."""
    shown, own = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, stdin=own, stdout=own, stderr=own, preexec_fn=heed_all
    )
    os.close(own)
    STARTED.append(process)
    return process, shown


def read_until(shown, text):
    """What a terminal shows up to ``text``."""
    seen = b""
    while text not in seen:
        assert select([shown], [], [], 60)[0], f"nothing more within a minute: {seen}"
        seen += os.read(shown, 4096)
    return seen


def wait_for_steps(folder, count):
    metrics = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() or metrics.read_text().count("\n") < count:
        assert time.monotonic() < deadline, "no step was done within a minute"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    process = start(tmp_path, "--out", "run", "--train-steps", "100000")
    wait_for_steps(tmp_path, 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == ""
    saved = int(re.search(r"saved step (\d+); go on with: tinyddpm train --resume run", err)[1])
    assert "Traceback" not in err
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == saved
    done = start(tmp_path, "--resume", "run", "--train-steps", str(saved + 2))
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert out == "run\n"
    assert f"step {saved + 2}/{saved + 2}" in err


def test_a_second_signal_stops_at_once_and_loses_no_checkpoint(tmp_path):
    process = start(tmp_path, "--out", "run", "--train-steps", "100000", "--save-every", "2")
    wait_for_steps(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert re.search(r"stopped; --resume goes on|saved step \d+; go on with", err)  # a quick step
    done = start(tmp_path, "--resume", "run", "--train-steps", "5")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err


def test_a_terminal_that_is_closed_stops_the_run_with_a_checkpoint(tmp_path):
    process, shown = on_a_terminal(tmp_path, *TRAIN, "--out", "run", "--train-steps", "100000")
    wait_for_steps(tmp_path, 3)
    read_until(shown, b"training glyphs  [")
    os.close(shown)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    steps = (tmp_path / "run" / "metrics.jsonl").read_text().count("\n")
    assert (tmp_path / "run" / "checkpoints" / f"step-{steps:08d}.npz").exists()


def test_an_error_is_one_when_nobody_can_be_told(tmp_path):
    process, shown = on_a_terminal(tmp_path, *TRAIN, "--data", "nonsense")
    os.close(shown)
    assert process.wait(timeout=60) in {3, 120}  # 120: Python could not flush stderr at the end


STOPPED = """
import os, sys
from tinyddpm.cli.signals import StopSignals

with StopSignals() as signals:
    for number in map(int, sys.argv[1:]):
        os.kill(os.getpid(), number)
    print(signals.received)
"""


def test_a_terminal_may_close_twice():
    """Its shell passes the signal on that it was sent itself."""
    for first in (signal.SIGHUP, signal.SIGINT):
        numbers = [str(int(first)), str(int(signal.SIGHUP))]
        done = subprocess.run(
            [sys.executable, "-c", STOPPED, *numbers],
            preexec_fn=heed_all,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f"{int(first)}\n")


def ignore_all():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_hang_up_that_is_ignored_stays_so(number):
    """As nohup asks for. What a script begins with & ignores SIGINT: whoever sends one means it."""
    told = {signal.SIGHUP: "None\n"}.get(number, f"{int(number)}\n")
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(number))],
        preexec_fn=ignore_all,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, told)


def test_a_second_signal_shows_the_cursor_again(tmp_path):
    number = str(int(signal.SIGINT))
    process, shown = on_a_terminal(tmp_path, sys.executable, "-c", STOPPED, number, number)
    read_until(shown, b"\x1b[?25h")
    assert process.wait(timeout=10) == 130


WAITING = """
import sys
from tinyddpm.cli.signals import StopSignals

with StopSignals():
    while True:
        sys.stderr.write("more than anybody reads\\n")
"""


def unread(pipe):
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_signals_are_heeded_while_a_write_to_stderr_waits():
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heed_all) as process:
        before = -1
        while unread(process.stderr) != before or not before:
            before = unread(process.stderr)
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert b"Traceback" not in process.stderr.read()


WRITING = """
import sys, time
from pathlib import Path
from tinyddpm.cli.main import commands, main
from tinyddpm.cli.progress import Progress
from tinyddpm.files import write_atomically

def slowly(file):
    with Progress("writing", 2) as progress:
        progress.advance()
        time.sleep(60)

@commands.command()
def write():
    write_atomically(Path("result"), slowly)

sys.argv[1:] = ["write"]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_elsewhere_leaves_no_half_file_and_no_hidden_cursor(tmp_path, number):
    process, shown = on_a_terminal(tmp_path, sys.executable, "-c", WRITING)
    read_until(shown, b"step 1/2")
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    process.send_signal(number)
    seen = read_until(shown, b"stopped\r\n")
    assert b"\x1b[?25h" in seen
    assert process.wait(timeout=10) == 128 + number
    assert not list(tmp_path.iterdir())


BEGINNING = """
import os, signal, sys
import tinyddpm

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "tinyddpm.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
import tinyddpm.__main__
"""


def test_a_signal_while_the_command_line_is_imported_gives_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING],
        preexec_fn=heed_all,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_kill_leaves_a_run_that_goes_on(tmp_path):
    process = start(tmp_path, "--out", "run", "--train-steps", "100000", "--save-every", "1")
    wait_for_steps(tmp_path, 4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    steps = (tmp_path / "run" / "metrics.jsonl").read_text().count("\n")
    done = start(tmp_path, "--resume", "run", "--train-steps", str(steps + 1))
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err


def test_training_goes_on_when_nobody_reads_its_progress(tmp_path):
    process = start(tmp_path, "--out", "run", "--train-steps", "40")
    process.stderr.close()
    assert process.wait(timeout=120) in {0, 120}  # 120: Python could not flush stderr at the end
    process.stdout.close()
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 40
    assert (tmp_path / "run" / "checkpoints" / "step-00000040.npz").exists()
