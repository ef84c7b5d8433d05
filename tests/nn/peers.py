"""What the comparisons with networks in PyTorch share.

A layout says where a PyTorch network keeps our parameters: for each of its names, an array of
positions in our flat buffer, in the shape and order in which PyTorch has the values. Values go over
by ``values[positions]``; gradients come back by ``grad[positions] = theirs``; and where the
positions of all names together are each of ours once, nothing was left out on either side.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

T = np.array([3, 700])


class Layout(dict):
    """Positions by PyTorch's name, filled layer by layer under our names."""

    def __init__(self, parameters):
        super().__init__()
        self.mine, start = {}, 0
        for p in parameters:
            self.mine[p.name] = np.arange(start, start + p.size).reshape(p.shape)
            start += p.size

    def has(self, layer):
        return f"{layer}.weight" in self.mine

    def vectors(self, theirs, layer):
        """A norm: its two vectors."""
        for kind in ("weight", "bias"):
            self[f"{theirs}.{kind}"] = self.mine[f"{layer}.{kind}"]

    def linear(self, theirs, layer, columns=slice(None)):
        """(in, out) to (out, in), or a part of the outputs."""
        self[f"{theirs}.weight"] = self.mine[f"{layer}.weight"][:, columns].T
        self[f"{theirs}.bias"] = self.mine[f"{layer}.bias"][columns]

    def linear_as_conv1d(self, theirs, layer):
        """(in, out) to (out, in, 1)."""
        self.linear(theirs, layer)
        self[f"{theirs}.weight"] = self[f"{theirs}.weight"][..., None]

    def conv(self, theirs, layer):
        """(kh, kw, in, out) to (out, in, kh, kw)."""
        self[f"{theirs}.weight"] = self.mine[f"{layer}.weight"].transpose(3, 2, 0, 1)
        self[f"{theirs}.bias"] = self.mine[f"{layer}.bias"]


def assert_covers(layout, network, module):
    """Every parameter of both sides has one place in the layout, and the shapes are theirs."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert {name: positions.shape for name, positions in layout.items()} == shapes
    positions = np.concatenate([p.ravel() for p in layout.values()])
    np.testing.assert_array_equal(np.sort(positions), np.arange(network.parameters.count))


def copy_values(layout, network, module):
    """Give ``module`` the values of ``network``."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(network.parameters.value[layout[name]]))


def assert_same_network(layout, network, module, x, tolerance=1e-10):
    """The output and all gradients agree, each to ``tolerance`` of its own largest element."""
    assert_covers(layout, network, module)
    copy_values(layout, network, module)
    y, saved = network.forward(x, T)
    dy = np.random.default_rng(7).standard_normal(y.shape)
    dx = network.backward(dy, saved)

    their_x = channels_first(x).requires_grad_()
    their_y = module(their_x, torch.from_numpy(T))
    their_y.backward(channels_first(dy))
    their_grad = np.empty_like(network.parameters.grad)
    for name, parameter in module.named_parameters():
        their_grad[layout[name]] = parameter.grad.numpy()

    assert_close(y, channels_last(their_y), tolerance, "output")
    assert_close(dx, channels_last(their_x.grad), tolerance, "dx")
    # Some gradients are zero but for rounding: of a bias that the norm behind it takes away.
    rounding = 1e-13 * np.abs(their_grad).max()
    for name, positions in layout.mine.items():
        mine, theirs = network.parameters.grad[positions], their_grad[positions]
        assert_close(mine, theirs, tolerance, name, atol=rounding)


def assert_close(mine, theirs, tolerance, name, atol=0.0):
    bound = tolerance * np.abs(theirs).max() + atol
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound, err_msg=name)


def channels_first(x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def channels_last(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)
