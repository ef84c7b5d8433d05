"""The bound: its terms, their weights, their gradient."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import data, errors
from tinyddpm.diffusion.bound import eps_weights, snr_weights
from tinyddpm.diffusion.decoder import LEVELS, decoder_floor, log_probability
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.schedule import NoiseSchedule

PREDICTIONS = ("eps", "x0", "v", "score")
SCHEDULES = [
    NoiseSchedule.linear(),
    NoiseSchedule.linear(4000),
    NoiseSchedule.cosine(),
    NoiseSchedule.cosine(4000),
    NoiseSchedule.log_snr_linear(1000),
]
SHORT = NoiseSchedule.from_beta([0.003, 0.05, 0.1, 0.3, 0.6])
SHAPE = (4, 3, 2, 2)


def levels(seed, shape=SHAPE, dtype=np.float64):
    return LEVELS[np.random.default_rng(seed).integers(0, 256, shape)].astype(dtype)


def draws(diffusion, t, seed=0, dtype=np.float64):
    """Images, their x_t, and an output of the width that the variance asks for."""
    rng = np.random.default_rng(seed)
    x0 = levels(seed, dtype=dtype)
    xt = diffusion.q_sample(x0, t, rng.standard_normal(SHAPE).astype(dtype))
    width = SHAPE[-1] * (2 if diffusion.variance == "learned" else 1)
    return x0, xt, rng.standard_normal((*SHAPE[:-1], width)).astype(dtype)


def test_golden_values_of_the_prior():
    def bits_per_dim(schedule, x0):
        nats = GaussianDiffusion(schedule).prior_term(x0)
        return nats / (x0[0].size * math.log(2))

    ones = np.ones(SHAPE)
    assert bits_per_dim(SCHEDULES[0], ones) == pytest.approx([2.9e-5] * 4, rel=0.02)
    assert bits_per_dim(SCHEDULES[0], -ones / 2) == pytest.approx([7.3e-6] * 4, rel=0.02)
    assert bits_per_dim(SCHEDULES[2], ones) == pytest.approx([1.8e-9] * 4, rel=0.05)
    assert GaussianDiffusion(SCHEDULES[0]).prior_term(ones.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "learned"])
@pytest.mark.parametrize("clip", [False, True])
def test_a_term_is_a_divergence_and_the_first_the_decoder(predict, variance, clip):
    diffusion = GaussianDiffusion(SHORT, predict, variance)
    t = np.array([3, 1, 5, 2])
    x0, xt, output = draws(diffusion, t)
    nats, _ = diffusion.bound_term(output, x0, xt, t, clip=clip)
    assert nats.shape == (4,)
    for i, time in enumerate(t):
        one = slice(i, i + 1)
        reverse = diffusion.p_mean_variance(output[one], xt[one], int(time), clip=clip)
        mean, true_variance = diffusion.q_posterior(x0[one], xt[one], int(time))
        if time > 1:
            expected = normal_kl(mean, np.log(true_variance), reverse.mean, reverse.log_variance)
        else:
            expected = -log_probability(x0[one], reverse.mean, reverse.log_variance)[0]
        assert nats[i] == pytest.approx(expected.sum(), rel=1e-9)


@given(st.lists(st.floats(1e-3, 0.7), min_size=2, max_size=8), st.data())
def test_the_divergence_of_a_step_is_a_weighted_squared_error(beta, data):
    schedule = NoiseSchedule.from_beta(beta)
    t = data.draw(st.integers(2, schedule.T))
    variance = data.draw(st.sampled_from(["beta", "beta_tilde"]))
    diffusion = GaussianDiffusion(schedule, variance=variance)
    draw = np.random.default_rng(t)
    x0, eps, output = levels(t), draw.standard_normal(SHAPE), draw.standard_normal(SHAPE)
    nats, _ = diffusion.bound_term(output, x0, diffusion.q_sample(x0, t, eps), t, clip=False)
    weight = eps_weights(schedule, getattr(schedule, variance))[t] if variance == "beta" else None
    if weight is None:
        weight = snr_weights(schedule)[t] / schedule.snr[t]
    ratio = schedule.beta_tilde[t] / getattr(schedule, variance)[t]
    constant = 0.5 * (ratio - 1 - math.log(ratio)) * x0[0].size
    expected = weight * ((eps - output) ** 2).sum(axis=(1, 2, 3)) + constant
    np.testing.assert_allclose(nats, expected, rtol=1e-7)


def test_golden_weights():
    linear, cosine = SCHEDULES[0], SCHEDULES[2]
    small = eps_weights(linear, linear.beta_tilde)
    cosine_last = eps_weights(cosine, cosine.beta_tilde)[1000]
    large = eps_weights(linear, linear.beta)
    assert large[1] == pytest.approx(0.50005, abs=1e-6)
    assert (small[2], large[2]) == pytest.approx((0.600, 0.273), abs=5e-4)
    assert (small[500], large[1000]) == pytest.approx((0.0055, 0.0102), abs=5e-5)
    assert cosine_last == pytest.approx(499.5, rel=0.01)
    assert small[1] == np.inf


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weight_in_signal_to_noise_ratios(schedule):
    times = np.arange(2, schedule.T + 1)
    weights = eps_weights(schedule, schedule.beta_tilde)[times] * schedule.snr[times]
    # The difference of two ratios that nearly agree loses digits.
    np.testing.assert_allclose(snr_weights(schedule)[times], weights, rtol=1e-9)
    assert snr_weights(schedule)[1] == np.inf


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("variance", ["beta", "learned"])
@pytest.mark.parametrize("clip", [False, True])
def test_the_gradient_of_a_term_by_differences(predict, variance, clip):
    # The complex step certifies t > 1; the decoder is certified by itself; here they meet.
    diffusion = GaussianDiffusion(SHORT, predict, variance)
    t = np.array([1, 4, 1, 2])
    x0, xt, output = draws(diffusion, t, seed=4)
    rng = np.random.default_rng(5)
    weights, direction = rng.standard_normal(4), rng.standard_normal(output.shape)
    _, saved = diffusion.bound_term(output, x0, xt, t, clip=clip)
    doutput = diffusion.bound_term_backward(weights, saved)
    assert doutput.shape == output.shape
    h = 1e-6
    ahead, _ = diffusion.bound_term(output + h * direction, x0, xt, t, clip=clip)
    behind, _ = diffusion.bound_term(output - h * direction, x0, xt, t, clip=clip)
    slopes = (ahead - behind) / (2 * h)
    found = weights * (doutput * direction).sum(axis=(1, 2, 3)) / weights
    np.testing.assert_allclose(found, weights * slopes, rtol=1e-6)


def test_a_clipped_image_gets_no_gradient():
    diffusion = GaussianDiffusion(SHORT, "x0")
    x0, xt, output = draws(diffusion, 3)
    _, saved = diffusion.bound_term(output, x0, xt, 3, clip=True)
    doutput = diffusion.bound_term_backward(np.ones(4), saved)
    np.testing.assert_array_equal(doutput != 0, np.abs(output) < 1)


@pytest.mark.parametrize("schedule", [SCHEDULES[2], SCHEDULES[4]])
@pytest.mark.parametrize("variance", ["beta_tilde", "learned"])
def test_single_precision_is_enough_and_kept(schedule, variance):
    diffusion = GaussianDiffusion(schedule, "eps", variance)
    t = np.array([1, 2, 500, 1000])
    found = {}
    for dtype in (np.float32, np.float64):
        x0 = levels(8).astype(np.float32).astype(dtype)
        rng = np.random.default_rng(8)
        eps = rng.standard_normal(SHAPE).astype(np.float32).astype(dtype)
        width = SHAPE[-1] * (2 if variance == "learned" else 1)
        error = rng.standard_normal((*SHAPE[:-1], width)).astype(np.float32).astype(dtype)
        output = np.concatenate([eps, 0 * eps], axis=-1)[..., :width] + error
        nats, saved = diffusion.bound_term(
            output, x0, diffusion.q_sample(x0, t, eps), t, clip=False
        )
        doutput = diffusion.bound_term_backward(np.ones(4, dtype), saved)
        assert (nats.dtype, doutput.dtype) == (dtype, dtype)
        found[dtype] = nats, doutput
    np.testing.assert_allclose(found[np.float32][0], found[np.float64][0], rtol=2e-3)
    np.testing.assert_allclose(found[np.float32][1], found[np.float64][1], rtol=2e-2, atol=1e-3)


def model_of(diffusion):
    """Some model; what it gives depends on both of its arguments."""

    def model(xt, t):
        output = np.tanh(xt) + 0.01 * t.reshape(-1, 1, 1, 1).astype(xt.dtype)
        wide = np.concatenate([output, 0.5 * output], axis=-1)
        return wide if diffusion.variance == "learned" else output

    return model


@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_there_is_a_column_for_each_term(variance):
    diffusion = GaussianDiffusion(SHORT, "eps", variance)
    x0, steps = levels(1), []
    terms = diffusion.vlb(model_of(diffusion), x0, seed=3, progress=steps.append)
    assert terms.nats.shape == (4, 6)
    assert terms.nats.dtype == np.float64
    assert (terms.dims, steps) == (12, [5, 4, 3, 2, 1])
    np.testing.assert_array_equal(terms.nats[:, 5], diffusion.prior_term(x0))
    assert np.all(terms.nats >= 0)
    np.testing.assert_allclose(terms.bits_per_dim, terms.nats / 12 / math.log(2))
    free = diffusion.vlb(model_of(diffusion), x0, seed=3, clip=False)
    assert not np.array_equal(free.nats, terms.nats)
    again = diffusion.vlb(model_of(diffusion), x0, seed=3)
    np.testing.assert_array_equal(again.nats, terms.nats)


def test_the_terms_do_not_depend_on_how_the_images_are_batched():
    diffusion = GaussianDiffusion(SHORT, "v", "learned")
    x0, model = levels(2, dtype=np.float32), model_of(diffusion)
    whole = diffusion.vlb(model, x0, seed=1).nats
    parts = [
        diffusion.vlb(model, x0[:1], seed=1).nats,
        diffusion.vlb(model, x0[1:], seed=1, first_sample=1).nats,
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_bound_of_a_respaced_chain_gives_the_model_the_original_times():
    diffusion, times = GaussianDiffusion(NoiseSchedule.cosine(50)).respace(4), []

    def model(xt, t):
        times.append(t.tolist())
        return 0 * xt

    diffusion.vlb(model, levels(0))
    assert times == [[int(t)] * 4 for t in diffusion.timesteps[:0:-1]]


def test_the_exact_image_costs_no_more_than_the_decoder():
    # With x̂_0 = x_0 and σ² = β̃ every divergence is 0 and L_0 is the floor.
    diffusion = GaussianDiffusion(SHORT, "x0", "beta_tilde")
    x0 = levels(3)
    terms = diffusion.vlb(lambda _xt, _t: x0, x0)
    np.testing.assert_allclose(terms.nats[:, 1:5], 0, atol=1e-13)
    histogram = np.bincount(np.rint((x0 + 1) * 127.5).astype(int).ravel(), minlength=256)
    floor = decoder_floor(histogram, math.sqrt(SHORT.beta_tilde[2]))
    assert terms.bits_per_dim[:, 0].mean() == pytest.approx(floor, rel=1e-10)


@pytest.mark.mnist
def test_the_floor_of_each_schedule_on_mnist(real_data):
    images = data.load("mnist", split="test", data_dir=real_data / "mnist").images
    histogram = np.bincount(images.ravel(), minlength=256)
    linear, _, cosine, cosine_4000, log_snr = SCHEDULES
    floors = {
        math.sqrt(linear.beta[1]): 0.82,
        math.sqrt(linear.beta_tilde[2]): 0.66,
        math.sqrt(cosine.beta[1]): 0.58,
        math.sqrt(cosine.beta_tilde[2]): 0.40,
        math.sqrt(cosine_4000.beta[1]): 0.195,
        math.sqrt(log_snr.beta[1]): 0.002,
    }
    for std, floor in floors.items():
        digits = 2 if floor > 0.2 else 3
        assert round(decoder_floor(histogram, std), digits) == pytest.approx(floor, abs=1e-9), std


@pytest.mark.parametrize("t", [0, 6])
def test_times_out_of_range_are_refused(t):
    diffusion = GaussianDiffusion(SHORT)
    x0, xt, output = draws(diffusion, 1)
    with pytest.raises(errors.UsageError, match=r"t must lie in 1 \.\.\. 5"):
        diffusion.bound_term(output, x0, xt, t)
