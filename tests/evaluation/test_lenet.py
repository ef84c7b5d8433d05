"""LeNet-5: its size, its gradients, and that nothing depends on the kernels."""

import numpy as np
import pytest

from tinyddpm.evaluation.lenet import LeNet, pixels
from tinyddpm.gradcheck.complex_step import Case, certify
from tinyddpm.kernels.cpu import cpu
from tinyddpm.ops.kernels import reference


def random_network(kernels, dtype):
    """Biases and weights are all random, and features large enough to matter."""
    network = LeNet(3, kernels=reference, dtype=np.float64)
    return LeNet(kernels=kernels, values=(2 * network.parameters.value).astype(dtype))


def test_the_parameters_are_those_of_lenet_5():
    network = LeNet()
    assert network.parameters.count == 61_706
    assert [p.shape for p in network.parameters][::2] == [
        (5, 5, 1, 6),
        (5, 5, 6, 16),
        (400, 120),
        (120, 84),
        (84, 10),
    ]
    assert network.parameters.value.dtype == np.float32


def test_the_layers_have_their_names_widths():
    seen, _ = LeNet().forward(np.zeros((3, 28, 28, 1), np.float32))
    assert [a.shape for a in seen] == [(3, 400), (3, 84), (3, 10)]
    assert all(a.dtype == np.float32 for a in seen)
    assert seen.pooled.min() >= 0
    assert seen.hidden.min() >= 0


def test_the_whole_network_is_certified_in_image_and_parameters():
    x = np.random.default_rng(0).random((2, 28, 28, 1))
    values = random_network(reference, np.float64).parameters.value

    def forward(image, flat):
        network = LeNet(kernels=reference, values=flat)
        seen, saved = network.forward(image)
        return seen.logits, (network, saved)

    def backward(dy, saved):
        network, network_saved = saved
        network.parameters.grad[...] = 0
        dx = network.backward(dy, network_saved)
        return dx, network.parameters.grad.copy()

    certificate = certify(Case("lenet", forward, backward, (x, values)))
    assert certificate.holds, certificate


def test_the_fast_kernels_give_the_same():
    x = np.random.default_rng(1).random((4, 28, 28, 1)).astype(np.float32)
    exact, fast = random_network(reference, np.float64), random_network(cpu, np.float32)
    for one, other in zip(exact.forward(x.astype(float))[0], fast.forward(x)[0], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


def test_a_replica_shares_values_and_owns_gradients():
    network = LeNet()
    replica = network.replica()
    assert replica.parameters.value is network.parameters.value
    assert replica.parameters.grad is not network.parameters.grad
    assert LeNet(kernels=reference).replica().kernels is reference


@pytest.mark.parametrize(("byte", "pixel"), [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_black_is_0_and_white_1(byte, pixel):
    assert pixels(np.array([byte], np.uint8))[0] == np.float32(pixel)
