"""Every backward is certified, the certificate has teeth, and no op is left out."""

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyddpm.ops
from tinyddpm.gradcheck import certificates, certify
from tinyddpm.gradcheck.complex_step import Case
from tinyddpm.gradcheck.networks import ADD, unet_case
from tinyddpm.gradcheck.ops import op_cases
from tinyddpm.ops.silu import silu


@given(seed=st.integers(0, 2**32 - 1))
def test_every_op_and_block_is_certified_at_any_point(seed):
    for certificate in certificates(seed):
        assert certificate.holds, certificate


def test_every_backward_in_ops_has_a_case():
    backwards = set()
    for module in pkgutil.iter_modules(tinyddpm.ops.__path__):
        contents = vars(importlib.import_module(f"tinyddpm.ops.{module.name}"))
        backwards |= {n for n in contents if n.endswith("_backward") and not n.startswith("_")}
    certified = {case.name.split()[0].rstrip(",") + "_backward" for case in op_cases()}
    assert backwards <= certified


@pytest.mark.parametrize(
    "wrong",
    [
        lambda dy, saved: (dy * (0.5 * (1 + np.tanh(0.5 * saved.x))),),  # forgets that s varies
        lambda dy, _: (-dy,),  # another sign
        lambda dy, _: (0 * dy,),  # no gradient at all
    ],
)
def test_a_wrong_backward_is_refused(wrong):
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert not certify(Case("silu", silu, wrong, (x,))).holds


def test_a_vacuous_certificate_is_refused():
    def constant(x):
        return 0 * x, None

    x = np.random.default_rng(0).standard_normal((3, 4))
    assert not certify(Case("constant", constant, lambda dy, _: (0 * dy,), (x,))).holds


def test_a_scaled_epsilon_in_group_norm_is_seen():
    """The complex step sees an error of 1e-6 in one term, which a difference quotient would not."""
    case = next(c for c in op_cases() if c.name == "group_norm")

    def slightly_wrong(dy, saved):
        dx, dweight, dbias = case.backward(dy, saved)
        return dx * (1 + 1e-9), dweight, dbias

    assert not certify(replace(case, backward=slightly_wrong)).holds


def test_deep_unets_are_certified():
    config = replace(ADD, image_size=16, channels=(4, 4, 8), blocks=2, attention_at=(8,))
    draw = np.random.default_rng(3).standard_normal
    case = unet_case("deep", config, draw((2, 16, 16, 2)), np.array([10, 20]), draw)
    assert certify(case).holds
