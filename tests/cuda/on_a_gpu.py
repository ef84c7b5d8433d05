"""Ten minutes on a real card: what only a GPU can tell, each part in a process of its own.

    python tests/cuda/on_a_gpu.py [--minutes 10] [--json FILE] [PART ...]

    machine    the card and the versions
    tests      pytest -m cuda: the kernels on the card against the reference, steps and samples
               against those of the CPU
    parity     of every preset, a recorded step is, to the bit, the step launched kernel by kernel,
               one after the other
    order      what a training step gains by gradients that are formed beside the rest
    bench      training and sampling steps in TF32 and bf16, time by kernel, memory, and beside
               them PyTorch's, where it is installed
    compile    beside torch.compile as well, where PyTorch is installed

Every part tells what it finds at once; one that fails does not stop the others. Each may take its
share of the time that is left, and is cut off behind it; what it does not need is for those that
follow. So all have their turn. Without a GPU that can be used nothing is run.
"""

import itertools
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import click

from tinyddpm.arrays import cuda_obstacle

REPOSITORY = Path(__file__).resolve().parents[2]
PRESETS, PRECISIONS = ("mnist", "mnist-1.7m", "cifar10"), ("tf32", "bf16")
TESTS = ("tests/cuda", "tests/kernels/test_twins.py")
PARITY = "tests/cuda/test_gpu_presets.py"
# A warning of CuPy's or a driver's is no fault of the kernels.
PYTEST = ("pytest", "-m", "cuda", "-q", "--continue-on-collection-errors", "-W", "default")
BESIDE = ("--against", "torch") if find_spec("torch") else ()
BENCH = {"bench": (BESIDE, 2)}
if BESIDE:
    BENCH["compile"] = ((*BESIDE, "--compile", "--no-ops", "--no-memory"), 3)


def parts(batch):
    """Every part: its name, the module that it runs with its arguments, and its share of time."""
    yield "machine", ("tinyddpm", "doctor"), 3
    yield "tests", (*PYTEST, *TESTS, f"--ignore={PARITY}"), 12
    yield "parity", (*PYTEST, PARITY), 6
    yield "order", ("tests.cuda.in_order", str(batch)), 3
    for name, (options, share) in BENCH.items():
        for preset, precision in itertools.product(PRESETS, PRECISIONS):
            what = ("--preset", preset, "--precision", precision, "--batch", str(batch))
            command = ("tinyddpm", "bench", "--device", "cuda", *what, *options, "--json")
            yield name, command, share


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For all parts together.")
@click.option("--batch", default=128, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the results here, too.")
@click.argument("chosen", nargs=-1)
def main(minutes, batch, file, chosen):
    """Run the parts, or the CHOSEN ones (such as: tests bench)."""
    if obstacle := cuda_obstacle():
        raise click.ClickException(f"there is no GPU to test on: {obstacle}")
    deadline, reports, failed = time.monotonic() + 60 * minutes, [], False
    wanted = [part for part in parts(batch) if not chosen or part[0] in chosen]
    for i, (name, command, share) in enumerate(wanted):
        left = deadline - time.monotonic()
        click.echo(f"\n== {name}: {' '.join(command)}")
        if left < 5:
            click.echo("left out: no time is left")
            continue
        status, told = run(command, left * share / sum(part[2] for part in wanted[i:]))
        skipped = name in {"tests", "parity"} and " passed" not in told
        failed |= status != 0 or skipped
        if name not in BENCH:
            click.echo(told)
        elif told:
            reports.append(json.loads(told))
            click.echo("\n".join(rows(reports[-1])))
        if file:
            file.write_text(json.dumps(reports, indent=1))
    table(reports)
    sys.exit(failed)


def run(command, seconds):
    """Run a module in a process of its own; its exit status, and what it wrote to stdout."""
    begun = time.monotonic()
    done = subprocess.run(
        # As by Ctrl-C: the tests then tell of what failed so far.
        ["timeout", "-s", "INT", "-k", "5", str(int(seconds) + 1), sys.executable, "-m", *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    status = {0: "done", 124: "cut off"}.get(done.returncode, f"failed ({done.returncode})")
    click.echo(f"-- {status} after {time.monotonic() - begun:.0f} s")
    return done.returncode, done.stdout


def rows(report):
    """A line for each side of each kind of step: milliseconds, PyTorch's time over ours."""
    what = f"{report['settings']['preset']:12}{report['settings']['precision']:6}"
    for kind in ("train", "sample"):
        ours = report[kind]["seconds"]
        yield f"{kind:8}{what}{'tinyddpm':17}{milliseconds(ours)}"
        for variant in report["against"][kind]["variants"] if report["against"] else ():
            ratio = "{median:6.2f}× ({lower:.2f} – {upper:.2f})".format(**variant["ratio"])
            yield f"{kind:8}{what}{variant['mode']:17}{milliseconds(variant['alone'])}{ratio}"


def milliseconds(spread):
    return f"{1e3 * spread['median']:10.3f} ms"


def table(reports):
    """All rows, those of the same kind of step and preset together."""
    click.echo("\nmilliseconds a step, alone; PyTorch's time over ours, in turns\n")
    for row in sorted({row for report in reports for row in rows(report)}):
        click.echo(row)


if __name__ == "__main__":
    main()
