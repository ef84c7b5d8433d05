"""The table by op adds up, and the stopwatch changes nothing that is computed."""

import time

import numpy as np
import pytest
from small_runs import narrow, small_run, tiny

from tinyddpm.benchmark import on_cpu
from tinyddpm.benchmark.flops import Products, forward_products
from tinyddpm.benchmark.op_table import Stopwatch, op_table
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def op(self, seconds):
        def run(*_args, **_options):
            self.now += seconds
            return self.now

        return run


def test_rows_and_everything_else_are_the_whole():
    clock = FakeClock()
    watch = Stopwatch(clock)
    linear, linear_backward = (
        watch.on("linear", clock.op(2.0)),
        watch.on("linear_backward", clock.op(3.0)),
    )
    silu, glue = watch.on("silu", clock.op(0.5)), clock.op(0.25)
    for _ in range(4):
        for function in (linear, linear, glue, silu, linear_backward, glue):
            function()
    products = Products(conv2d=0.0, upsample_conv2d=0.0, linear=5.0, attention=0.0)
    table = op_table(watch, total=clock.now, steps=4, images=7, products=products)
    first, second = table.rows
    assert first == ("linear", 2, 4.0, 3.0, 7 / 8, 3 * 5 * 7 / 7.0)
    assert second == ("silu", 1, 0.5, 0.0, 1 / 16, None)
    assert (table.everything_else, table.total) == (0.5, 8.0)


def test_a_reset_forgets():
    clock = FakeClock()
    watch = Stopwatch(clock)
    watch.on("silu", clock.op(1.0))()
    watch.reset()
    assert not watch.seconds
    assert not watch.calls


def test_a_network_computes_the_same_under_the_stopwatch():
    watch, config = Stopwatch(), narrow("mnist")
    x = np.random.default_rng(0).standard_normal((2, 28, 28, 1)).astype(np.float32)
    outputs, gradients = [], []
    for kernels in (reference, watch.on_table(reference)):
        network = UNet(config, kernels=kernels)
        y, saved = network.forward(x, np.array([3, 700]))
        network.backward(np.ones_like(y), saved)
        outputs.append(y)
        gradients.append(network.parameters.grad)
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_array_equal(*gradients)
    assert watch.calls["conv2d"] == watch.calls["conv2d_backward"] > 0
    assert watch.calls["linear"] == 2 + 11 + 2 * 4  # the embedding's, the blocks', attention's


def test_a_step_of_training_adds_up():
    config = small_run(tiny())
    begun = time.perf_counter()
    table = on_cpu._ops(config, lambda _: None)
    wall = time.perf_counter() - begun
    ops = {row.op for row in table.rows}
    assert {"conv2d", "upsample_conv2d", "linear", "attention", "group_norm_silu"} <= ops
    assert 0 < table.everything_else < table.total < wall
    seconds = sum(row.forward + row.backward for row in table.rows)
    assert seconds + table.everything_else == pytest.approx(table.total)
    assert sum(row.share for row in table.rows) == pytest.approx(seconds / table.total)
    conv = next(row for row in table.rows if row.op == "conv2d")
    work = 3 * 4 * forward_products(config.network).conv2d
    assert conv.flops == pytest.approx(work / (conv.forward + conv.backward))
