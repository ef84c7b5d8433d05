"""How many blocks of each kernel a multiprocessor holds at once, from what they are compiled to.

Two large blocks hide each other's waiting, a huge one has enough to do by itself; the smallest
multiprocessor of sm_80 on, the A100's, must hold them.
"""

import pytest

from tinyddpm.kernels.cuda.products import (
    HUGE,
    LARGE,
    MIDDLE,
    NARROW,
    SMALL,
    conv2d_defines,
)
from tinyddpm.kernels.cuda.source import source

pytestmark = pytest.mark.cuda_compile

REGISTERS, SHARED, RESERVED = 64 * 1024, 164 * 1024, 1024  # a block's share of the last is reserved
LEAST_BLOCKS = {HUGE: 1, LARGE: 2, MIDDLE: 3, NARROW: 3, SMALL: 4}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("tile", LEAST_BLOCKS, ids=lambda tile: f"{tile.m}x{tile.n}")
def test_multiprocessor_holds_enough_blocks(compile_cubin, tile, precision, arch):
    _, usages = compile_cubin(source("conv2d.cu", conv2d_defines(precision, tile)), arch)
    assert usages.keys() == {"convolve", "weight_gradient"}
    for name, usage in usages.items():
        granted = -(-usage.registers // 8) * 8 * tile.threads
        by_shared = SHARED // (tile.shared_bytes + usage.shared + RESERVED)
        assert min(REGISTERS // granted, by_shared) >= LEAST_BLOCKS[tile], (name, usage)
