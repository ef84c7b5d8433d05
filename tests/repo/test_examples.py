"""Every example runs by itself, keeps its own promises (it asserts them), and leaves nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPOSITORY / "examples").glob("[0-9]*.py"))


def files_of_the_repository() -> set[Path]:
    """All but hidden files and what Python and its tools keep for themselves."""
    kept = set()
    for folder, folders, files in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        kept |= {Path(folder, name) for name in files if not name.startswith(".")}
    return kept


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_runs_and_leaves_nothing_behind(path, tmp_path):
    before = files_of_the_repository()
    places = {name: tmp_path / name for name in ("working", "home", "temporary")}
    for place in places.values():
        place.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-X", "utf8", "-W", "error", path],
        cwd=places["working"],
        env={**os.environ, "HOME": str(places["home"]), "TMPDIR": str(places["temporary"])},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stderr
    for place in places.values():
        assert not list(place.iterdir())
    assert files_of_the_repository() <= before


def test_numbers_have_no_gaps():
    assert [path.name[:3] for path in EXAMPLES] == [
        f"{number:02d}_" for number in range(1, len(EXAMPLES) + 1)
    ]
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_short_states_a_claim_and_asserts_it(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree)
    assert docstring
    assert "Claim:" in docstring
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert 20 <= text.count("\n") <= 75
