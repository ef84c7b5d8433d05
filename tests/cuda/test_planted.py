"""Bugs planted in the sources of the kernels: the comparison must find each of them.

Those of the convolutions are in ``test_conv_planted``.
"""

import itertools

import numpy as np
import pytest
import simulator
import test_batch
import test_between
import test_device_walk
import test_dropout
import test_gradients
import test_group_norm
import test_joined
import test_loss
import test_second_moment
import test_update
import twins
from conv_twins import normals
from planted import (
    ATTENTION,
    BATCH,
    BETWEEN,
    DROPOUT,
    GRADIENTS,
    GROUP_NORM,
    JOINED_NORM,
    JOINED_OPERAND,
    LOSS,
    MODULATED_NORM,
    NORM_FOR_A_PRODUCT,
    SECOND_MOMENT,
    UPDATE,
    WALK,
    WHOLE_NORM,
)

from tinyddpm.kernels.cuda import gradients, group_norm

pytestmark = pytest.mark.cuda_sim


def norm_is_right(device):
    """Three channels to a group, two images of four slabs, the last one shorter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "_SLAB", 1500)
        return whole_norm_is_right(device)


def whole_norm_is_right(device):
    """The same in one slab."""
    pairs = twins.group_norm(device, silu=True).results(
        [(2, 19, 11, 24), (24,), (24,)], normals, groups=8
    )
    return twins.largest_error(pairs) < 1e-5


def norm_for_a_product_is_right(device):
    for format_ in (("bf16", np.uint16, 8), ("tf32", np.uint32, 4)):
        test_group_norm.test_what_goes_into_a_product_is_written_as_its_operand(
            device, 24, *format_
        )
    return True


def modulated_norm_is_right(device):
    for slab in (700, 8192):
        test_group_norm.test_each_image_may_have_a_weight_and_bias_of_its_own(
            device, slab, silu=True
        )
    return True


def joined_norm_is_right(device):
    for widths, slab in itertools.product(((8, 16), (10, 14)), (700, 8192)):
        test_joined.test_a_norm_reads_both_and_gives_both_gradients(device, widths, slab)
    return True


def joined_operand_is_right(device):
    for widths, precision in (((8, 16), "bf16"), ((10, 14), "tf32"), ((6, 7), "fp32")):
        test_joined.test_both_are_packed_as_one(device, widths, precision)
    return True


def what_lies_between_is_right(device):
    test_between.test_a_convolution_writes_bf16_for_a_norm_in_bf16(device, "bf16", 24)
    for slab in (700, 8192):
        test_between.test_a_norm_reads_it_and_gives_back_an_operand_with_its_sums(
            device, "bf16", 24, slab, of_each_image=False
        )
    test_between.test_the_sums_are_of_more_channels_than_threads(device, 1040)
    return True


def dropout_is_right(device):
    test_dropout.test_is_the_reference(device, (1, 3, 3, 3))
    for format_ in (("bf16", np.uint16), ("tf32", np.uint32)):
        test_dropout.test_operands_are_scaled_and_rounded_to_nearest(device, (1, 3, 3, 8), *format_)
    return True


def attention_is_right(device):
    """Two heads of two chunks, three tiles of keys, the last of them short."""
    pairs = twins.attention(device, "tf32").results(
        [(1, 70, 3 * 2 * 44)], lambda *args: 2 * normals(*args), heads=2, qkv_order="heads first"
    )
    return twins.relative_errors(pairs).max() < 3e-3


def batch_is_right(device):
    test_batch.test_a_batch_is_that_of_the_host(device, "v", (5, 6, 3))
    return True


def loss_is_right(device):
    test_loss.test_losses_and_their_gradient_are_those_of_the_host(
        device, "eps", "learned", "vlb", 1.0
    )
    return True


def second_moment_is_right(device):
    test_second_moment.test_times_and_weights_are_those_of_the_host(device, 1025, enough=True)
    test_second_moment.test_losses_are_learnt_in_the_order_of_the_batch(device, 1)
    return True


def gradients_are_right(device):
    """In blocks that have several items each, and gradients that lie between others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "_BLOCKS", 3)
        found = test_gradients.made()
        test_gradients.test_every_gradient_is_added_up_and_comes_to_its_place(device, found)
    for parts in (2, 40):
        test_gradients.test_a_sum_of_several_gradients_is_taken_apart_unsummed(device, parts)
    return True


def update_is_right(device):
    test_update.test_an_update_is_that_of_optim(device, 2, 3.0)
    return True


def walk_is_right(device):
    walker = device, lambda network: network, 1e-4
    test_device_walk.test_every_chain_is_walked_as_the_reference_walks_it(
        walker, "eps", None, "learned"
    )
    return True


CHECKS = [
    (norm_is_right, GROUP_NORM),
    (whole_norm_is_right, WHOLE_NORM),
    (norm_for_a_product_is_right, NORM_FOR_A_PRODUCT),
    (modulated_norm_is_right, MODULATED_NORM),
    (joined_norm_is_right, JOINED_NORM),
    (joined_operand_is_right, JOINED_OPERAND),
    (what_lies_between_is_right, BETWEEN),
    (dropout_is_right, DROPOUT),
    (attention_is_right, ATTENTION),
    (batch_is_right, BATCH),
    (loss_is_right, LOSS),
    (gradients_are_right, GRADIENTS),
    (second_moment_is_right, SECOND_MOMENT),
    (update_is_right, UPDATE),
    (walk_is_right, WALK),
]
BUGS = [pytest.param(check, *bugs[name], id=name) for check, bugs in CHECKS for name in bugs]


def finds_fault(check, cache):
    """Whether ``check`` fails, be asynchronous copies late or early, in two orders of the warps."""
    with np.errstate(all="ignore"):
        for seed, eager in itertools.product(range(2), (False, True)):
            try:
                if not check(simulator.SimRuntime(cache, seed=seed, eager=eager)):
                    return True
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize(("check", "right", "wrong"), BUGS)
def test_planted_bug_is_found(request, plant, check, right, wrong):
    plant(right, wrong)
    assert finds_fault(check, request.config.cache.mkdir("cuda_sim"))


@pytest.mark.parametrize("check", [check for check, _ in CHECKS])
def test_nothing_is_found_where_nothing_is_planted(request, check):
    assert not finds_fault(check, request.config.cache.mkdir("cuda_sim"))
