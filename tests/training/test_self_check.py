"""The self-check: its network leaves out no way of convolving, and it looks at gradients, too."""

from dataclasses import replace

import numpy as np

from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.conv2d import Winograd1dSaved, WinogradSaved
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.conv2d import conv2d_backward
from tinyddpm.ops.kernels import reference
from tinyddpm.training.self_check import NETWORK, TOLERANCE, self_check


def test_a_gradient_of_weights_that_is_wrong_is_found(monkeypatch):
    def wrong(dy, saved):
        dx, dweight, dbias = conv2d_backward(dy, saved)
        return dx, 1.01 * dweight, dbias

    table = replace(reference, conv2d_backward=wrong)
    monkeypatch.setattr("tinyddpm.training.self_check.kernels_for", lambda _: table)
    assert self_check() > TOLERANCE


def test_its_convolutions_go_every_way():
    ways = set()

    def spied(forward):
        def spy(*args, **options):
            y, saved = forward(*args, **options)
            tiled = isinstance(saved.way, Winograd1dSaved | WinogradSaved)
            ways.add((type(saved.way).__name__, saved.way.tiling.points if tiled else 0))
            return y, saved

        return spy

    kernels = replace(cpu, conv2d=spied(cpu.conv2d), upsample_conv2d=spied(cpu.upsample_conv2d))
    size = NETWORK.image_size
    UNet(NETWORK, kernels=kernels).forward(np.zeros((2, size, size, 1), np.float32), np.zeros(2))
    assert ways == {
        ("Im2colSaved", 0),
        ("Winograd1dSaved", 6),
        ("Winograd1dSaved", 9),
        ("WinogradSaved", 6),
        ("WinogradSaved", 5),
    }
