"""The network of the self-check leaves out no way of convolving."""

from dataclasses import replace

import numpy as np

from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.conv2d import Winograd1dSaved, WinogradSaved
from tinyddpm.nn.unet import UNet
from tinyddpm.training.self_check import NETWORK


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
