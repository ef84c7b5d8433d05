"""Every backward of the diffusion has a case, and a wrong one is refused."""

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from montecarlo import mutated

import tinyddpm.diffusion
from tinyddpm.diffusion import decoder
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.gradcheck.complex_step import certify
from tinyddpm.gradcheck.losses import loss_cases


def test_every_backward_in_diffusion_has_a_case():
    places = [GaussianDiffusion]
    for module in pkgutil.iter_modules(tinyddpm.diffusion.__path__):
        places.append(importlib.import_module(f"tinyddpm.diffusion.{module.name}"))
    found = {name for place in places for name in vars(place)}
    backwards = {n for n in found if n.endswith("_backward") and not n.startswith("_")}
    certified = {case.name.split()[0].rstrip(",") + "_backward" for case in loss_cases()}
    assert len(backwards) >= 7
    assert backwards <= certified


@pytest.mark.parametrize("name", [case.name for case in loss_cases()])
def test_a_gradient_that_is_slightly_wrong_is_refused(name):
    case = next(c for c in loss_cases() if c.name == name)

    def slightly_wrong(dy, saved):
        return tuple(gradient * (1 + 1e-9) for gradient in case.backward(dy, saved))

    assert certify(case).holds
    assert not certify(replace(case, backward=slightly_wrong)).holds


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("side * inv_std * density", "inv_std * density"),
        ("* xp.expm1(log_decay)", "* -xp.ones_like(log_decay)"),  # the far end forgotten
        ("(near - held_far", "(near + held_far"),
        ("-0.5 * density *", "-1.0 * density *"),  # the derivative by log σ
        ("/ -xp.expm1(-gap)", "/ 1.0"),
    ],
)
def test_a_wrong_gradient_of_the_decoder_is_refused(right, wrong):
    case = next(c for c in loss_cases() if c.name.startswith("log_probability"))
    backward = mutated(decoder, right, wrong).log_probability_backward
    assert not certify(replace(case, backward=backward)).holds


def test_the_decoder_agrees_with_its_integral():
    # The case's value is by quadrature, and what it saves is the decoder's: here the values.
    case = next(c for c in loss_cases(3) if c.name.startswith("log_probability"))
    x0 = decoder.LEVELS[[0, 1, 127, 128, 254, 255]]
    value, _ = decoder.log_probability(x0, *case.inputs)
    np.testing.assert_allclose(value, case.forward(*case.inputs)[0], rtol=1e-12, atol=1e-14)
