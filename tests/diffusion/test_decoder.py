"""The probability of a byte: by high precision, by counting, and against its approximations."""

import decimal
import math
import statistics
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, mutated

from tinyddpm.diffusion import decoder
from tinyddpm.diffusion.decoder import (
    HALF_BIN,
    LEVELS,
    decoder_cost,
    decoder_floor,
    log_bins,
    log_probability,
    log_probability_backward,
    rectangle_log_probability,
    tanh_log_probability,
    worked_example,
)
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.errors import UsageError
from tinyddpm.ops.normal import cdf

STDS = st.floats(1e-3, 1.0)
LINEAR_SIGMA = math.sqrt(NoiseSchedule.linear().beta_tilde[2])


def scalars(*values, dtype=np.float64):
    return [np.array(value, dtype) for value in values]


@pytest.fixture
def _many_digits():
    # Φ at 45 σ is 1e-442, the difference of sums whose terms are as large as 1e440.
    with decimal.localcontext() as context:
        context.prec = 1100
        yield


def half_mass(x: Decimal) -> Decimal:
    """∫ exp(−½ y²) dy from 0 to x = exp(−½ x²) (x + x³/3 + x⁵/(3·5) + …)."""
    total = term = x
    k = 3
    while abs(term) > abs(total) * Decimal("1e-1100"):
        term = term * x * x / k
        total += term
        k += 2
    return total * (-x * x / 2).exp()


def exact_probability(level: int, mean: Decimal, std: Decimal) -> Decimal:
    """Φ(b) − Φ(a), normalised by the mass out to 60 σ, which is all of it to 780 digits."""
    x0, half = Decimal(float(LEVELS[level])), Decimal(HALF_BIN)
    everything = half_mass(Decimal(60))
    below = -everything if level == 0 else half_mass((x0 - half - mean) / std)
    above = everything if level == 255 else half_mass((x0 + half - mean) / std)
    return (above - below) / (2 * everything)


@pytest.mark.parametrize("std", [0.0047, 0.4])
@pytest.mark.parametrize(("level", "sigmas"), [(0, 1), (0, -40), (255, 30), (255, -2), (3, 45)])
@pytest.mark.usefixtures("_many_digits")
def test_value_and_gradient_to_the_last_digits(level, sigmas, std):
    log_variance = np.array(2 * math.log(std))
    mean = np.array(LEVELS[level] + sigmas * std)
    mu, sigma = Decimal(float(mean)), (Decimal(float(log_variance)) / 2).exp()
    p, h = exact_probability(level, mu, sigma), Decimal("1e-60")
    by_mean = (
        exact_probability(level, mu + h, sigma) - exact_probability(level, mu - h, sigma)
    ) / (2 * h * p)
    wider, narrower = sigma * (h / 2).exp(), sigma * (-h / 2).exp()
    by_log_variance = (
        exact_probability(level, mu, wider) - exact_probability(level, mu, narrower)
    ) / (2 * h * p)
    log_p, saved = log_probability(np.array(LEVELS[level]), mean, log_variance)
    dmean, dlog_variance = log_probability_backward(np.ones(()), saved)
    assert log_p == pytest.approx(float(p.ln()), rel=2e-12, abs=1e-15)
    assert dmean == pytest.approx(float(by_mean), rel=2e-11)
    assert dlog_variance == pytest.approx(float(by_log_variance), rel=2e-11)


@given(st.integers(0, 255), st.floats(-1.5, 1.5), st.floats(0.03, 2.0))
def test_the_value_near_the_mean_by_erf(level, mean, std):
    # Beside the mean a difference of two erf is good enough.
    x0, centre, log_variance = scalars(LEVELS[level], mean, 2 * math.log(std))
    phi = statistics.NormalDist(mean, std).cdf
    below = 0.0 if level == 0 else phi(LEVELS[level] - HALF_BIN)
    above = 1.0 if level == 255 else phi(LEVELS[level] + HALF_BIN)
    assert math.exp(log_probability(x0, centre, log_variance)[0]) == pytest.approx(
        above - below, rel=1e-10, abs=1e-14
    )


@given(st.floats(-1.5, 1.5), STDS)
def test_the_bins_sum_to_one(mean, std):
    p = np.exp(log_bins(*scalars(mean, 2 * math.log(std))))
    assert p.shape == (256,)
    assert p.sum() == pytest.approx(1, rel=1e-11)


@given(st.integers(0, 255), st.floats(-1.5, 1.5), STDS)
def test_black_and_white_may_be_exchanged(level, mean, std):
    log_variance = np.array(2 * math.log(std))
    left, saved_left = log_probability(np.array(LEVELS[level]), np.array(mean), log_variance)
    right, saved_right = log_probability(np.array(-LEVELS[level]), np.array(-mean), log_variance)
    assert left == right
    dmean, dlog_variance = log_probability_backward(np.ones(()), saved_left)
    assert (-dmean, dlog_variance) == log_probability_backward(np.ones(()), saved_right)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_lives_hundreds_of_standard_deviations_out(dtype):
    x0 = LEVELS.astype(dtype)
    for centre in (-1.5, 0.001, 1.5):
        mean, log_variance = np.full_like(x0, centre), np.full_like(x0, 2 * math.log(0.002))
        log_p, saved = log_probability(x0, mean, log_variance)
        dmean, dlog_variance = log_probability_backward(np.ones_like(x0), saved)
        for found in (log_p, dmean, dlog_variance):
            assert found.dtype == dtype
            assert np.isfinite(found).all()
        out = np.abs(x0 - centre) > 0.02
        towards = np.sign(x0 - centre)
        pull = (np.abs(x0 - centre) - HALF_BIN) / 0.002**2  # of the near end of the bin
        inside = out & (np.abs(x0) < 1)
        np.testing.assert_allclose((towards * dmean)[inside], pull[inside], rtol=0.05)
        held = (x0 == np.sign(centre)) & (np.abs(centre) > 1)  # beyond an open edge all is well
        assert np.all(np.abs(dmean[held]) < 1e-6)


def test_nothing_underflows_into_a_warning_or_a_nan():
    x0, mean = np.meshgrid(LEVELS[[0, 1, 100, 254, 255]], np.array([-30.0, -1.0, 0.0, 1.0, 30.0]))
    for log_variance in (-40.0, -20.0, 0.0, 20.0):
        log_p, saved = log_probability(x0, mean, np.full((), log_variance))
        gradients = log_probability_backward(np.ones_like(x0), saved)
        assert np.isfinite([log_p, *gradients]).all()


def counted(module, mean, std, *parameters):
    """Null: levels of draws from 𝒩(mean, std²), rounded and clipped, fall into the bins. The
    distribution function is compared at the edges, by the inequality of ``ks_test``, which holds
    for discrete distributions too.
    """
    n = 100_000
    draws = mean + std * generator("decoder", mean, std, *parameters).standard_normal(n)
    levels = np.rint((np.clip(draws, -1, 1) + 1) * 127.5).astype(int)
    found = np.cumsum(np.bincount(levels, minlength=256)) / n
    expected = np.cumsum(np.exp(module.log_bins(*scalars(mean, 2 * math.log(std)))))
    return math.log(2) - 2 * n * np.max(np.abs(found - expected)) ** 2


@given(st.floats(-1.2, 1.2), st.floats(2e-3, 1.0), st.integers(0, 2**32 - 1))
def test_the_bins_are_those_of_rounded_and_clipped_gaussian_pixels(mean, std, seed):
    assert consistent(counted(decoder, mean, std, seed))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("xp.where(x0 < -_LAST_EDGE, -np.inf,", "xp.where(x0 < -2, -np.inf,"),
        ("xp.where(x0 > _LAST_EDGE, np.inf,", "xp.where(x0 > 2, np.inf,"),
        ("HALF_BIN = 1.0 / 255.0", "HALF_BIN = 1.0 / 127.5"),
        ("(centred - HALF_BIN)", "(centred - 0.0)"),
        ("-0.5 * log_variance.astype", "-1.0 * log_variance.astype"),
        ("np.arange(256) / 127.5 - 1.0", "np.arange(256) / 128.0 - 1.0"),
    ],
)
def test_a_wrong_decoder_is_rejected(right, wrong):
    module = mutated(decoder, right, wrong)
    log_p = [counted(module, mean, 0.05, "mutant") for mean in (-0.97, 0.1, 0.97)]
    assert not consistent(*log_p)


@pytest.mark.parametrize(
    "decoder", [log_probability, tanh_log_probability, rectangle_log_probability]
)
def test_integers_are_refused(decoder):
    """Bytes would all be white but two, and log-probabilities cut to integers."""
    levels, log_variance = np.array([0.0, 1.0]), np.array(-5.0)
    for x0, mean in ((np.array([0, 255], np.uint8), levels), (levels, np.array([0, 1]))):
        with pytest.raises(UsageError, match="must be floating-point"):
            decoder(x0, mean, log_variance)
    with pytest.raises(UsageError, match="must be floating-point"):
        log_bins(np.array([0, 1]), log_variance)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(UsageError, match="unknown decoder 'erf'"):
        decoder.log_bins(np.zeros(1), np.zeros(1), "erf")


def test_the_tanh_of_the_published_code():
    z = np.linspace(-8, 8, 4001)
    assert np.abs(decoder._tanh_cdf(z) - cdf(z)).max() == pytest.approx(1.8e-4, rel=0.05)
    for std in (LINEAR_SIGMA, 0.01, 0.02):
        cost = decoder_cost("tanh", np.linspace(-0.5, 0.5, 201), np.array(2 * math.log(std)))
        assert 2e-5 < cost.mean() < 5e-5


def test_the_tanh_saturates_where_the_exact_decoder_lives():
    x0, log_variance = scalars(0.0, 2 * math.log(LINEAR_SIGMA), dtype=np.float32)
    far, further = (np.float32(k * LINEAR_SIGMA) for k in (7, 9))
    values = [tanh_log_probability(x0, np.array(m), log_variance) for m in (far, further)]
    assert values[0] == values[1] == pytest.approx(-27.63, abs=0.01)
    assert -values[0] / math.log(2) == pytest.approx(39.9, abs=0.05)
    exact = [log_probability(x0, np.array(m), log_variance)[0] for m in (far, further)]
    assert exact[0] > exact[1] + 10


def test_the_rectangles_do_not_sum_to_one():
    def total(mean, std):
        return np.exp(log_bins(*scalars(mean, 2 * math.log(std)), "rectangle")).sum()

    assert total(LEVELS[128], 0.01) == pytest.approx(1.000, abs=5e-4)
    # a bell narrower than the bins: too much where it stands on a level, too little between two
    assert total(LEVELS[128], 0.0025) == pytest.approx(1.27, abs=0.01)
    assert total(LEVELS[128] + HALF_BIN, 0.0025) == pytest.approx(0.731, abs=5e-4)
    assert total(0.99, 0.01) == pytest.approx(0.924, abs=5e-4)
    assert total(0.99, 0.05) == pytest.approx(0.610, abs=5e-4)


@pytest.mark.parametrize("std", [0.05, 0.1, 0.4])
def test_the_error_of_the_rectangle_is_of_third_order(std):
    # ∫ φ = h φ(0) + h³ φ″(0)/24 + …, so P/rectangle − 1 = h² (z² − 1)/(24 σ²) with h = 2/255
    x0, log_variance = scalars(LEVELS[140], 2 * math.log(std))
    z = np.array([-1.5, 0.0, 0.5, 2.0])
    mean = x0 - z * std
    ratio = log_probability(x0, mean, log_variance)[0] - rectangle_log_probability(
        x0, mean, log_variance
    )
    np.testing.assert_allclose(
        ratio, (2 * HALF_BIN) ** 2 * (z * z - 1) / (24 * std**2), rtol=0.05, atol=1e-8
    )


def test_what_a_rectangle_costs():
    at_the_edge = decoder_cost("rectangle", *scalars(0.99, 2 * math.log(0.05)))
    inside = decoder_cost("rectangle", *scalars(0.1, 2 * math.log(0.05)))
    assert at_the_edge > 0.5
    assert 0 <= inside < 1e-5
    assert decoder_cost("exact", *scalars(0.1, -6.0)) == 0


def test_the_worked_example():
    example = worked_example(128, 0.0, 0.01)
    phi = statistics.NormalDist().cdf
    assert example.x0 == pytest.approx(1 / 255)
    assert example.a == pytest.approx(0, abs=1e-12)
    assert example.b == pytest.approx(200 / 255)
    assert example.cdf_a == pytest.approx(0.5)
    assert example.cdf_b == pytest.approx(phi(200 / 255))
    assert example.probability == pytest.approx(phi(200 / 255) - 0.5)
    assert example.bits == pytest.approx(-math.log2(phi(200 / 255) - 0.5))
    density = statistics.NormalDist(0, 0.01).pdf(1 / 255)
    assert example.rectangle == pytest.approx(density * 2 / 255)
    edge = worked_example(0, -0.9, 0.05)
    assert (edge.a, edge.cdf_a) == (-math.inf, 0)


@given(st.floats(1e-3, 0.1), st.integers(0, 2**32 - 1))
def test_the_floor_is_the_least_of_all_means(std, seed):
    draw = np.random.default_rng(seed)
    histogram = draw.integers(0, 1000, 256)
    pixels = np.repeat(LEVELS, histogram)
    means = np.clip(pixels + std * draw.standard_normal(len(pixels)), -1, 1)
    log_p, _ = log_probability(pixels, means, np.array(2 * math.log(std)))
    assert -log_p.mean() / math.log(2) >= decoder_floor(histogram, std)


@given(st.floats(1e-3, 0.1))
def test_the_floor_by_erfc(std):
    inside = 0.5 * math.erfc(-1 / (255 * std) / math.sqrt(2))
    histogram = np.full(256, 2)
    histogram[[0, 255]] = 300, 40
    bits = -(340 * math.log2(inside) + 508 * math.log2(2 * inside - 1)) / 848
    assert decoder_floor(histogram, std) == pytest.approx(bits, rel=1e-9, abs=1e-15)
