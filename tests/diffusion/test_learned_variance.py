"""A learned variance: its two ends, the chains that use it, and the losses that teach it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm import errors
from tinyddpm.diffusion import gaussian, losses
from tinyddpm.diffusion.decoder import LEVELS
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.learned_variance import learned_log_variance
from tinyddpm.diffusion.schedule import NoiseSchedule

PREDICTIONS = ("eps", "x0", "v", "score")
SHAPE = (3, 4, 4, 2)
COSINE = NoiseSchedule.cosine(20)


def draws(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x0 = LEVELS[rng.integers(0, 256, SHAPE)].astype(dtype)
    eps, prediction, v = (rng.standard_normal(SHAPE).astype(dtype) for _ in range(3))
    return x0, eps, prediction, v


def both(prediction, v):
    return np.concatenate([prediction, v], axis=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(lower=st.floats(-20, 0), width=st.floats(0, 3))
def test_the_ends_are_the_fixed_variances_to_the_bit(dtype, lower, width):
    ends = np.full((1, 1, 1, 1), lower, dtype), np.full((1, 1, 1, 1), lower + width, dtype)
    for v, expected in ((-1, ends[0]), (1, ends[1]), (0, (ends[0] + ends[1]) / 2)):
        found, _ = learned_log_variance(np.full((1, 2, 2, 1), v, dtype), *ends)
        assert found.dtype == dtype
        check = np.testing.assert_array_equal if v else np.testing.assert_allclose
        check(found, np.broadcast_to(expected, found.shape))


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(), NoiseSchedule.cosine()])
def test_the_ends_of_every_step(schedule):
    diffusion = GaussianDiffusion(schedule, variance="learned")
    x0, _, prediction, v = draws(dtype=np.float64)
    for t in (2, 10, 1000):
        for end, table in ((-1, schedule.beta_tilde), (1, schedule.beta)):
            output = both(prediction, np.full_like(v, end))
            reverse = diffusion.p_mean_variance(output, x0, t)
            assert reverse.variance.shape == reverse.log_variance.shape == SHAPE
            np.testing.assert_array_equal(reverse.log_variance, np.log(table[t]))
            np.testing.assert_allclose(reverse.variance, table[t], rtol=1e-12)
    at_one = [
        diffusion.p_mean_variance(both(prediction, np.full_like(v, end)), x0, 1) for end in (-1, 1)
    ]
    np.testing.assert_array_equal(at_one[0].log_variance, np.log(schedule.beta_tilde[2]))
    np.testing.assert_array_equal(at_one[1].log_variance, np.log(schedule.beta[1]))
    assert schedule.beta_tilde[2] < schedule.beta[1]


def test_a_chain_of_one_step_has_one_variance():
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.3]), variance="learned")
    x0, _, prediction, v = draws(dtype=np.float64)
    reverse = diffusion.p_mean_variance(both(prediction, v), x0, 1)
    np.testing.assert_allclose(reverse.variance, 0.3)


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("clip", [False, True])
def test_the_mean_is_that_of_a_fixed_variance(predict, clip):
    x0, eps, prediction, v = draws()
    t = np.array([1, 7, 20])
    xt = GaussianDiffusion(COSINE).q_sample(x0, t, eps)
    fixed = GaussianDiffusion(COSINE, predict).p_mean_variance(prediction, xt, t, clip=clip)
    learned = GaussianDiffusion(COSINE, predict, "learned")
    reverse = learned.p_mean_variance(both(prediction, v), xt, t, clip=clip)
    np.testing.assert_array_equal(reverse.mean, fixed.mean)
    np.testing.assert_array_equal(reverse.x0_hat, fixed.x0_hat)
    np.testing.assert_array_equal(
        learned.predict_x0(xt, t, both(prediction, v)),
        GaussianDiffusion(COSINE, predict).predict_x0(xt, t, prediction),
    )


@pytest.mark.parametrize(("end", "variance"), [(-1.0, "beta_tilde"), (1.0, "beta")])
@pytest.mark.parametrize("steps", [20, 6])
def test_sampling_at_either_end_is_sampling_with_that_fixed_variance(end, variance, steps):
    def fixed_model(xt, _t):
        return np.tanh(xt)

    def learned_model(xt, _t):
        return both(np.tanh(xt), np.full_like(xt, end))

    # Respaced, the ends are those of the short chain's β and β̃.
    fixed = GaussianDiffusion(COSINE, variance=variance).respace(steps)
    learned = GaussianDiffusion(COSINE, variance="learned").respace(steps)
    assert learned.variance == "learned"
    expected = fixed.sample(fixed_model, SHAPE, seed=2, dtype=np.float64)
    found = learned.sample(learned_model, SHAPE, seed=2, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_an_output_of_another_width_is_refused(channels):
    diffusion = GaussianDiffusion(COSINE, variance="learned")
    x0, *_ = draws()
    output = np.zeros((*SHAPE[:-1], channels), np.float32)
    for call in (diffusion.predict_x0, lambda *a: diffusion.p_mean_variance(a[2], a[0], a[1])):
        with pytest.raises(errors.UsageError, match="doubles the channels"):
            call(x0, 3, output)


@pytest.mark.parametrize("output", [(np.zeros(SHAPE), None), None, 1.0], ids=type)
def test_an_output_that_is_no_array_is_refused(output):
    """So of a model that returns all that ``UNet.forward`` does."""
    diffusion = GaussianDiffusion(COSINE, variance="learned")
    model = lambda *_: output  # noqa: E731
    calls = [
        lambda: diffusion.sample(model, SHAPE),
        lambda: diffusion.vlb(model, np.zeros(SHAPE)),
        lambda: diffusion.loss(output, *[np.zeros(SHAPE)] * 3, 1),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match=f"output {type(output).__name__} for xt"):
            call()


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_hybrid_teaches_the_prediction_what_the_simple_loss_does_to_the_bit(
    predict, dtype, seed
):
    x0, eps, prediction, v = draws(seed, dtype)
    t = np.random.default_rng(seed).integers(1, 21, 3)
    fixed, learned = (GaussianDiffusion(COSINE, predict, kind) for kind in ("beta", "learned"))
    xt = fixed.q_sample(x0, t, eps)
    _, simple = fixed.loss(prediction, x0, xt, eps, t, objective="simple")
    _, hybrid = learned.loss(both(prediction, v), x0, xt, eps, t, objective="hybrid")
    assert hybrid.dtype == dtype
    np.testing.assert_array_equal(hybrid[..., :2], simple)
    assert np.all(hybrid[..., 2:] != 0)


def test_a_bound_that_is_not_stopped_would_be_seen():
    x0, eps, prediction, v = draws(dtype=np.float64)
    learned = GaussianDiffusion(COSINE, variance="learned")
    xt = learned.q_sample(x0, 3, eps)
    _, simple = GaussianDiffusion(COSINE).loss(prediction, x0, xt, eps, 3)
    unstopped = mutated(
        losses, "doutput[..., : error.shape[-1]] = _", "doutput[..., : error.shape[-1]] += _"
    )
    _, hybrid = unstopped.loss(learned, both(prediction, v), x0, xt, eps, 3)
    assert not np.array_equal(hybrid[..., :2], simple)


def whole_bound(diffusion, x0, eps, output):
    """Σ_t L_{t−1} of each image in bits/dim, with one ε for all t, and the mean losses over t."""
    times = range(1, diffusion.schedule.T + 1)
    nats = total = 0.0
    for t in times:
        xt = diffusion.q_sample(x0, t, eps)
        nats = nats + diffusion.bound_term(output, x0, xt, t, clip=False)[0]
        total = total + diffusion.image_losses(output, x0, xt, eps, t, objective="hybrid")[0]
    return nats / (x0[0].size * math.log(2)), total / len(times)


def test_lambda_is_for_the_whole_bound_in_bits_per_dim():
    # The mean over t of the hybrid is L_simple + 0.001 × the bound (but L_T) in bits/dim.
    diffusion = GaussianDiffusion(COSINE, variance="learned")
    x0, eps, prediction, v = draws(dtype=np.float64)
    output = both(prediction, v)
    bits, hybrid = whole_bound(diffusion, x0, eps, output)
    simple = ((prediction - eps) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(hybrid - simple, 0.001 * bits, rtol=1e-9)
    xt = diffusion.q_sample(x0, 7, eps)
    alone, _ = diffusion.image_losses(output, x0, xt, eps, 7, objective="vlb")
    heavier, _ = diffusion.image_losses(output, x0, xt, eps, 7, vlb_weight=0.5)
    np.testing.assert_allclose(heavier - simple, 0.5 * alone, rtol=1e-9)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("diffusion.schedule.T / (math", "1.0 / (math"),  # λ without T: T times too weak
        ("* math.log(2.0))", "* 1.0)"),  # nats where bits are meant
        ("(math.prod(x0.shape[1:]) *", "(1.0 *"),  # summed over dimensions
    ],
)
def test_a_lambda_of_another_unit_is_seen(monkeypatch, right, wrong):
    module = mutated(losses, right, wrong)
    monkeypatch.setattr(GaussianDiffusion, "image_losses", module.image_losses)
    x0, eps, prediction, v = draws(dtype=np.float64)
    diffusion = GaussianDiffusion(COSINE, variance="learned")
    bits, hybrid = whole_bound(diffusion, x0, eps, both(prediction, v))
    simple = ((prediction - eps) ** 2).mean(axis=(1, 2, 3))
    assert np.all(np.abs((hybrid - simple) / (0.001 * bits) - 1) > 0.1)


@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_the_bound_alone_is_in_bits_per_dim_and_teaches_both(variance):
    diffusion = GaussianDiffusion(COSINE, "v", variance)
    x0, eps, prediction, v = draws(dtype=np.float64)
    output = both(prediction, v) if variance == "learned" else prediction
    t = np.array([1, 2, 20])
    xt = diffusion.q_sample(x0, t, eps)
    value, doutput = diffusion.loss(output, x0, xt, eps, t, objective="vlb")
    nats, saved = diffusion.bound_term(output, x0, xt, t, clip=False)
    per_nat = 20 / (x0[0].size * math.log(2))
    assert value == pytest.approx(per_nat * nats.mean())
    expected = diffusion.bound_term_backward(np.full(3, per_nat / 3), saved)
    np.testing.assert_allclose(doutput, expected, rtol=1e-12)
    assert np.all(doutput != 0)


@pytest.mark.parametrize("objective", ["simple", "hybrid", "vlb"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_multiply_the_loss_of_each_image(objective, dtype):
    diffusion = GaussianDiffusion(COSINE, variance="beta" if objective == "simple" else "learned")
    x0, eps, prediction, v = draws(dtype=dtype)
    output = prediction if objective == "simple" else both(prediction, v)
    t, weights = np.array([1, 5, 9]), np.array([0.5, 2.0, 0.0])
    xt = diffusion.q_sample(x0, t, eps)
    value, doutput = diffusion.loss(output, x0, xt, eps, t, objective=objective, weights=weights)
    assert (value.dtype, doutput.dtype) == (dtype, dtype)
    per_image, saved = diffusion.image_losses(output, x0, xt, eps, t, objective=objective)
    assert value == pytest.approx((weights * per_image).mean(), rel=1e-6)
    _, plain = diffusion.loss(output, x0, xt, eps, t, objective=objective)
    np.testing.assert_allclose(doutput, plain * weights.reshape(3, 1, 1, 1), rtol=1e-5)
    shard = diffusion.image_losses_backward((weights / 3).astype(dtype), saved)
    np.testing.assert_array_equal(shard, doutput)
    plain_value, _ = diffusion.loss(output, x0, xt, eps, t, objective=objective)
    assert plain_value == pytest.approx(per_image.mean(), rel=1e-6)


def test_the_objective_follows_the_variance_unless_said():
    x0, eps, prediction, v = draws()
    for variance, output, usual in (
        ("beta", prediction, "simple"),
        ("learned", both(prediction, v), "hybrid"),
    ):
        diffusion = GaussianDiffusion(COSINE, variance=variance)
        xt = diffusion.q_sample(x0, 4, eps)
        by_default, _ = diffusion.loss(output, x0, xt, eps, 4)
        assert by_default == diffusion.loss(output, x0, xt, eps, 4, objective=usual)[0]


def test_objectives_that_teach_nothing_are_refused():
    x0, eps, prediction, v = draws()
    fixed, learned = GaussianDiffusion(COSINE), GaussianDiffusion(COSINE, variance="learned")
    with pytest.raises(errors.UsageError, match="'hybrid' does not go with variance 'beta'"):
        fixed.loss(prediction, x0, x0, eps, 1, objective="hybrid")
    with pytest.raises(errors.UsageError, match="'simple' does not go with variance 'learned'"):
        learned.loss(both(prediction, v), x0, x0, eps, 1, objective="simple")
    with pytest.raises(errors.UsageError, match="unknown objective 'l2'"):
        fixed.loss(prediction, x0, x0, eps, 1, objective="l2")


def test_a_lower_end_of_zero_at_one_would_be_seen():
    # Published code that clips β̃_1 at 1e-20 instead interpolates from e^−46.
    right, wrong = "    table[:2] = schedule.beta_tilde[2]", "    table[:2] = 1e-20 + 0 * table[2]"
    module = mutated(gaussian, right, wrong)
    x0, _, prediction, v = draws(dtype=np.float64)
    output = both(prediction, 0 * v)
    right_variance = GaussianDiffusion(COSINE, variance="learned").p_mean_variance(output, x0, 1)
    diffusion = module.GaussianDiffusion(COSINE, variance="learned")
    assert np.all(diffusion.p_mean_variance(output, x0, 1).variance < 1e-6)
    assert np.all(right_variance.variance > COSINE.beta_tilde[2])
