"""Ten minutes on a real card: what only a GPU can tell, each part in a process of its own.

    python tests/cuda/on_a_gpu.py [--minutes 10] [--json FILE] [PART ...]

    machine    the card and the versions
    tests      pytest -m cuda: every kernel on the card against the reference
    parity     a recorded step is, to the bit, the step launched kernel by kernel
    ours       training and sampling steps of each preset, in TF32 and bf16
    kernels    where our training step spends its time
    torch      the same steps in PyTorch, eager and compiled, where it is installed

Every part tells what it finds at once; one that fails or takes too long does not stop the others,
and what the minutes do not suffice for is left out. Times are medians of rounds between two events
of the device, after a warm-up, on random images.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click

HERE = Path(__file__).parent
REPOSITORY = HERE.resolve().parents[1]
PRESETS, PRECISIONS, MODES = (
    ("mnist", "mnist-1.7m", "cifar10"),
    ("tf32", "bf16"),
    ("eager", "compile"),
)
RESULT = "RESULT "  # begins a line of a part that is kept


def parts():
    """Every command line of this program that measures one thing, and its seconds at most."""
    yield ["machine"], 60
    yield ["tests"], 240
    yield ["parity"], 120
    for preset, precision in itertools.product(PRESETS, PRECISIONS):
        yield ["ours", preset, precision], 90
    for preset, precision in itertools.product(PRESETS, PRECISIONS):
        yield ["kernels", preset, precision], 60
    for mode, preset, precision in itertools.product(MODES, PRESETS, PRECISIONS):
        yield ["torch", preset, precision, mode], 90 if mode == "eager" else 180


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For all parts together.")
@click.option("--batch", default=128, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the results here, too.")
@click.argument("chosen", nargs=-1)
def main(minutes, batch, file, chosen):
    """Run the parts, or the CHOSEN ones (such as: ours torch)."""
    deadline, results = time.monotonic() + 60 * minutes, []
    for part, seconds in parts():
        left = deadline - time.monotonic()
        if chosen and part[0] not in chosen:
            continue
        click.echo(f"\n== {' '.join(part)}")
        if left < 5:
            click.echo("left out: no time is left")
            continue
        results += run([*part, "--batch", str(batch)], min(seconds, left))
        if file:
            file.write_text(json.dumps(results, indent=1))
    table(results)


def run(part, seconds):
    """One part in a process of its own, told line by line; its results."""
    torch = part[0] == "torch"
    program = [HERE / "gpu_torch.py", *part[1:]] if torch else [HERE / "gpu_ours.py", *part]
    command = [sys.executable, "-u", *map(str, program)]
    found, begun = [], time.monotonic()
    with subprocess.Popen(
        ["timeout", str(int(seconds) + 1), *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith(RESULT):
                found.append(json.loads(line.removeprefix(RESULT)))
            click.echo(line, nl=False)
    status = {0: "done", 124: "cut off"}.get(process.returncode, f"failed ({process.returncode})")
    click.echo(f"-- {status} after {time.monotonic() - begun:.0f} s")
    return found


def table(results):
    """Milliseconds a step, and how many times as long as ours PyTorch takes."""
    times = {(r["kind"], r["preset"], r["precision"], r["who"]): r for r in results if "kind" in r}
    click.echo("\nmilliseconds a step (PyTorch's: and its time over ours)\n")
    click.echo(f"{'':28}{'tinyddpm':>10}" + "".join(f"{mode:>20}" for mode in MODES))
    for kind, preset, precision in itertools.product(("train", "sample"), PRESETS, PRECISIONS):
        ours = times.get((kind, preset, precision, "tinyddpm"))
        line = f"{kind:7}{preset:12}{precision:9}" + (
            f"{ours['ms']:10.3f}" if ours else f"{'-':>10}"
        )
        for mode in MODES:
            theirs = times.get((kind, preset, precision, mode))
            ratio = f" ({theirs['ms'] / ours['ms']:.2f}×)" if theirs and ours else ""
            line += f"{theirs['ms']:.3f}{ratio}".rjust(20) if theirs else f"{'-':>20}"
        click.echo(line)


if __name__ == "__main__":
    main()
