"""``tinyddpm doctor``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import packages_distributions, version
from pathlib import Path

import click

import tinyddpm
from tinyddpm.arrays import cuda_obstacle
from tinyddpm.benchmark.surroundings import gemm_peak
from tinyddpm.blas import blas_name, blas_threads, one_blas_thread
from tinyddpm.cli.options import RUNS
from tinyddpm.cli.sizes import free_space, size
from tinyddpm.data.folders import data_folders
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.machine import free_memory, total_memory
from tinyddpm.parallel import Workers, available_cores
from tinyddpm.training.self_check import TOLERANCE, self_check

EXAMPLES = """\b
Examples:
  tinyddpm doctor
  tinyddpm doctor --json > doctor.json
"""
MODULES = ("numpy", "PIL", "click", "cupy", "matplotlib", "threadpoolctl")
# Variables that change how many threads there are, or where files are looked for.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


@click.command(epilog=EXAMPLES, short_help="Check this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def doctor(as_json: bool) -> None:  # noqa: FBT001
    """Show what tinyddpm depends on here, and check that it computes correctly.

    The text is meant for bug reports: the home folder is written as ~. A check that cannot be done
    is marked FAILED, and the others are done; the command then exits with 1.
    """
    found = {name: _isolated(probe) for name, probe in PROBES.items()}
    if as_json:
        click.echo(json.dumps({name: text for name, (text, _) in found.items()}, indent=2))
    else:
        for name, (text, _) in found.items():
            indent = " " * 14
            click.echo(textwrap.fill(f"{name:14}{text}", 100, subsequent_indent=indent))
    if not all(well for _, well in found.values()):
        sys.exit(1)


def _isolated(probe: Callable[[], str]) -> tuple[str, bool]:
    """What ``probe`` says, and whether it went well; its failure is an answer like others."""
    try:
        text, well = probe(), True
    except Exception as error:  # whatever is broken here, the rest of the report is wanted
        text, well = f"FAILED: {type(error).__name__}: {error}", False
    home = os.path.expanduser("~")  # Path.expanduser would raise where there is none
    return text.replace(f"{home}/", "~/"), well


def _python() -> str:
    return f"{platform.python_version()} ({platform.python_implementation()})"


def _packages() -> str:
    """By the names under which they are installed: the module cupy comes as several."""
    installed = packages_distributions()
    found = {module: dict.fromkeys(installed.get(module, ())) for module in MODULES}
    return ", ".join(
        " and ".join(f"{name} {version(name)}" for name in names) or f"{module} not installed"
        for module, names in found.items()
    )


def _blas() -> str:
    control = blas_threads()
    if control is None:
        return f"{blas_name()}; its threads cannot be held to one: set OPENBLAS_NUM_THREADS=1"
    return f"{blas_name()}, {control.get()} threads, held to one in training by {control.means}"


def _cores() -> str:
    return f"{available_cores()} for this process, of {os.cpu_count()} ({platform.machine()})"


def _memory() -> str:
    free = free_memory()
    return f"{size(total_memory())}, {'?' if free is None else size(free)} free"


def _allocator() -> str:
    return "glibc, keeps its pages" if keep_pages() else "not glibc: fresh memory may be slow"


def _gpu() -> str:
    """What the driver says, which needs no CuPy."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi, so probably no NVIDIA driver"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return " ".join((done.stdout or done.stderr).split()) or f"nvidia-smi: exit {done.returncode}"


def _cuda() -> str:
    return cuda_obstacle() or f"can be used through CuPy; {_agreement('cuda')}"


def _data() -> str:
    return "; ".join(f"{folder}: {_folder(folder)}" for folder in _roots())


def _roots() -> list[Path]:
    """The folders of data sets: $TINYDDPM_DATA, if it is set, and the cache."""
    return [folder.parent for folder in data_folders("mnist")]


def _folder(folder: Path) -> str:
    """What is in a folder, and how much room there is for more."""
    what = "not there yet"
    if folder.is_dir():
        what = ", ".join(sorted(path.name for path in folder.iterdir() if _holds(path))) or "empty"
    return f"{what} ({size(free_space(folder))} free)"


def _holds(path: Path) -> bool:
    """Whether it is more than a folder with nothing but what downloads leave there."""
    try:
        return not path.is_dir() or any(
            not inside.name.startswith(".") for inside in path.iterdir()
        )
    except OSError:  # who may not look inside cannot say that there is nothing
        return True


def _runs() -> str:
    return f"{RUNS.absolute()}: {_folder(RUNS.absolute())}"


def _environment() -> str:
    names = [name for name in sorted(os.environ) if name.startswith("TINYDDPM_")]
    names += [name for name in VARIABLES if name in os.environ]
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "nothing set"


def _speed() -> str:
    with Workers(1) as worker:
        return f"{gemm_peak(worker) / 1e9:.0f} GFLOP/s on one thread, large float32 products"


def _agreement(device: str) -> str:
    with one_blas_thread():
        error = self_check(device)
    if not error < TOLERANCE:
        raise ArithmeticError(f"the kernels are off by {error:.1e} of the largest value")
    return f"its kernels agree with the reference to {error:.1e}"


PROBES: dict[str, Callable[[], str]] = {
    "tinyddpm": lambda: tinyddpm.__version__,
    "python": _python,
    "platform": platform.platform,
    "packages": _packages,
    "blas": _blas,
    "cores": _cores,
    "memory": _memory,
    "allocator": _allocator,
    "gpu": _gpu,
    "cuda": _cuda,
    "data": _data,
    "runs": _runs,
    "environment": _environment,
    "speed": _speed,
    "cpu": lambda: _agreement("cpu"),
}
