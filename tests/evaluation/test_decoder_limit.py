"""No clipped run of a fixed variance reports an L_0 below the decoder's floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyddpm import data, errors
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.evaluation.decoder_limit import check_limit, decoder_limit
from tinyddpm.evaluation.likelihood import estimate_likelihood

SCHEDULES = {
    "linear": NoiseSchedule.linear(),
    "cosine": NoiseSchedule.cosine(),
    "cosine-4000": NoiseSchedule.cosine(4000),
    "log-snr-linear": NoiseSchedule.log_snr_linear(1000),
}
SHAPE = (3, 4, 2, 1)


def reconstructions(diffusion, images, x0_hat):
    """L_0 of a model that foresees ``x0_hat``, clipped and not; one draw of t beside it."""
    found = estimate_likelihood(diffusion, lambda *_: x0_hat.astype(np.float32), images, draws=1)
    return [float(draws.terms(1, 1).mean()) for draws in found]


@given(
    st.sampled_from(list(SCHEDULES)),
    st.sampled_from(["beta", "beta_tilde"]),
    hnp.arrays(np.uint8, SHAPE),
    hnp.arrays(np.float64, SHAPE, elements=st.floats(-0.1, 0.1)),
    st.sampled_from([0.0, 0.01, 0.1, 1.0, 100.0]),
)
def test_no_network_gets_below_the_floor(schedule, variance, images, error, size):
    diffusion = GaussianDiffusion(SCHEDULES[schedule], "x0", variance)
    limit = decoder_limit(diffusion, images)
    assert limit.strict
    clipped, _ = reconstructions(diffusion, images, from_bytes(images) + size * error)
    check_limit(clipped, limit)
    assert clipped >= limit.bits_per_dim - 1e-5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_floor_is_reached_by_the_image_itself(schedule):
    diffusion = GaussianDiffusion(SCHEDULES[schedule], "x0", "beta")
    images = np.arange(24, dtype=np.uint8).reshape(SHAPE) * 11
    clipped, _ = reconstructions(diffusion, images, from_bytes(images))
    assert clipped == pytest.approx(decoder_limit(diffusion, images).bits_per_dim, abs=1e-5)


def test_what_only_a_wrong_program_reports_is_refused():
    diffusion = GaussianDiffusion(SCHEDULES["cosine"], "x0", "beta")
    images = np.zeros(SHAPE, np.uint8)
    limit = decoder_limit(diffusion, images)
    _, unclipped = reconstructions(diffusion, images, from_bytes(images) - 0.1)
    assert unclipped < 0.01 * limit.bits_per_dim  # a mean beyond black makes black free
    with pytest.raises(errors.FailedCheckError, match="below what any network can reach"):
        check_limit(unclipped, limit)
    with pytest.raises(errors.FailedCheckError):
        check_limit(limit.bits_per_dim * (1 - 1e-4), limit)
    check_limit(limit.bits_per_dim * (1 - 1e-6), limit)


def test_a_learned_variance_may_go_below():
    diffusion = GaussianDiffusion(SCHEDULES["cosine"], "x0", "learned")
    images = np.full(SHAPE, 100, np.uint8)
    limit = decoder_limit(diffusion, images)
    assert not limit.strict
    x0 = from_bytes(images)
    narrower = np.concatenate([x0, np.full_like(x0, -9.0)], axis=-1)
    clipped, _ = reconstructions(diffusion, images, narrower)
    assert clipped < 0.9 * limit.bits_per_dim
    check_limit(clipped, limit)


@pytest.mark.mnist
def test_the_floor_of_mnist_per_schedule(real_data):
    images = data.load("mnist", split="test", data_dir=real_data / "mnist").images
    floors = [decoder_limit(GaussianDiffusion(s), images).bits_per_dim for s in SCHEDULES.values()]
    assert floors == pytest.approx([0.6574, 0.3999, 0.0700, 0.0], abs=1e-4)
