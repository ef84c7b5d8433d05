"""A module imports only lower floors or its own folder; neighbours do not know each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tinyddpm"

FLOORS = {
    "errors": 0,
    "arrays": 0,
    "blas": 0,
    "files": 0,
    "machine": 0,
    "output_folder": 0,
    "rng": 0,
    "zips": 0,
    "ops": 1,
    "diffusion": 1.5,  # uses ops, knows no network
    "kernels": 2,
    "nn": 2,
    "optim": 2,
    "data": 2,
    "parallel": 3,
    "gradcheck": 3,
    "identities": 3,
    "evaluation": 3.2,  # measures on threads
    "figures": 3,
    "training": 3.5,  # puts the parts of the floors below together
    "concepts": 3.7,  # the course: uses all of it
    "benchmark": 3.7,
    "cli": 4,
    "__main__": 5,
    "__init__": 5,  # the public names
}
ALLOWED_OUTSIDE = {"numpy", "PIL", "click", "cupy", "matplotlib", "threadpoolctl", "torch"}
# Within the ground floor: everything may raise the package's errors and name its array types.
GROUND = {
    "errors": set(),
    "arrays": {"errors"},
    "files": {"errors"},
    "output_folder": {"errors"},
    "rng": {"arrays"},
}


def room(path: Path) -> str:
    """The first part of a module's path inside the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """All modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module)
            if node.module == "tinyddpm":
                found |= {f"tinyddpm.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down(path):
    here = room(path)
    assert here in FLOORS, f"{here} has no floor"
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "tinyddpm":
            allowed = parts[0] in ALLOWED_OUTSIDE or parts[0] in sys.stdlib_module_names
            assert allowed, f"{path} imports {module}"
        elif len(parts) > 1 and parts[1] not in {here, "__version__"}:
            below = FLOORS[parts[1]] < FLOORS[here] or parts[1] in GROUND.get(here, set())
            assert below, f"{here} imports {parts[1]}"


def test_the_package_alone_imports_neither_cupy_nor_the_command_line():
    code = (
        "import sys, tinyddpm; "
        "print(sorted({'cupy', 'click', 'PIL', 'tinyddpm.cli', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
