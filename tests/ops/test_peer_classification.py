"""The ops of a classifier against PyTorch's in float64, forward and gradient."""

import numpy as np
import pytest

from tinyddpm.ops.cross_entropy import cross_entropy, cross_entropy_backward
from tinyddpm.ops.max_pool import max_pool, max_pool_backward
from tinyddpm.ops.relu import relu, relu_backward

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.peer


def channels_last(op):
    return lambda x: op(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


LABELS = np.array([3, 0, 3])
CASES = {
    "relu": (relu, relu_backward, F.relu, (3, 4)),
    "max_pool": (
        max_pool,
        max_pool_backward,
        channels_last(lambda x: F.max_pool2d(x, 2)),
        (2, 4, 6, 3),
    ),
    "cross_entropy": (
        lambda x: cross_entropy(x, LABELS),
        cross_entropy_backward,
        lambda x: F.cross_entropy(x, torch.tensor(LABELS)),
        (3, 5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees(name):
    forward, backward, theirs, shape = CASES[name]
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    y, saved = forward(x)
    dy = random.standard_normal(np.shape(y))
    leaf = torch.tensor(x, requires_grad=True)
    their_y = theirs(leaf)
    their_y.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, their_y.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(backward(dy, saved), leaf.grad.numpy(), rtol=1e-13, atol=1e-15)
