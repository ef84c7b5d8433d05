"""Memory is that of the process, and of nobody else."""

import subprocess
import sys

import numpy as np
import pytest
from small_runs import small_run, tiny

from tinyddpm.benchmark.memory import Task, measure
from tinyddpm.errors import TinyDDPMError

MIB = 2**20

ALLOCATE = """
import json, sys
import numpy as np
from tinyddpm.machine import peak_memory, resident_memory
before = resident_memory()
block = np.ones(100 * 2**20, np.uint8)
during = resident_memory()
del block
json.dump([before, during, resident_memory(), peak_memory()], sys.stdout)
"""


def test_a_known_allocation_is_seen_while_it_lasts_and_in_the_peak():
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, check=True)
    before, during, after, peak = (x / MIB for x in map(int, done.stdout.strip(b"[]").split(b",")))
    assert during - before == pytest.approx(100, abs=5)
    assert after - before == pytest.approx(0, abs=5)
    assert peak >= during - 1


def test_a_run_takes_memory_of_its_own_and_knows_nothing_of_ours():
    mine = np.ones(400 * MIB, np.uint8)
    found = measure(Task(small_run(tiny()).to_json(), threads=1))
    assert 10 * MIB < found.imports < found.peak < 200 * MIB < mine.size
    assert found.imports <= found.before <= found.peak
    assert found.imports <= found.after <= found.peak + MIB  # the kernel counts in batches


def test_more_images_take_more_memory():
    """Of 2 × 1024 images of 4×4 pixels more, x and ε and what the layers keep: over 10 MiB."""
    network = tiny()
    few, many = (
        measure(Task(small_run(network, batch=n, shard=n).to_json(), threads=1)).peak
        for n in (4, 2048)
    )
    assert many - few > 10 * MIB


def test_a_run_that_fails_says_why():
    with pytest.raises(TinyDDPMError, match="configuration is not one of this program's"):
        measure(Task({"network": {}}, threads=1))
