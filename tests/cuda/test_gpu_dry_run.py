"""``train --dry-run --device cuda`` tells what is taken of the card's memory."""

from dataclasses import replace

import gpu_card
import pytest

from tinyddpm.cli import dry_run
from tinyddpm.data.glyphs import glyphs
from tinyddpm.nn.config import UNetConfig
from tinyddpm.training.config import recipe
from tinyddpm.training.forecast import forecast
from tinyddpm.training.loop import Execution

NETWORK = UNetConfig(image_size=16, channels=(2,), groups=1)
CONFIG = replace(recipe("glyphs", "glyphs"), network=NETWORK, batch=2, train_steps=9)


@pytest.fixture(
    params=[
        pytest.param("cupy", marks=pytest.mark.cuda_sim),
        pytest.param("gpu", marks=pytest.mark.cuda),
    ]
)
def card(request):
    module = request.getfixturevalue(request.param)
    if request.param == "cupy":
        gpu_card.equip(module)


def estimated(device):
    execution = Execution(device=device, threads=1, preview_every=0)
    return forecast(CONFIG, glyphs(n=8), execution)


def rows(found):
    return [row for row in dry_run._as_text(found, free=10**9) if row.startswith("GPU memory ")]


@pytest.mark.usefixtures("card")
def test_memory_of_the_card_is_what_the_steps_have_taken():
    found = estimated("cuda")
    buffers = 5 * 4 * found.parameters  # values, gradients, two moments and their average
    assert buffers < found.card_memory < found.card_free
    assert len(rows(found)) == 1


def test_a_cpu_takes_none():
    found = estimated("cpu")
    assert found.card_memory is found.card_free is None
    assert rows(found) == []
