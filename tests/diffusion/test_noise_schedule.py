"""The schedules: golden values, the definitions in exact arithmetic, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import errors
from tinyddpm.diffusion.schedule import NoiseSchedule

BETAS = st.lists(st.floats(1e-6, 0.95), min_size=1, max_size=12)
SCHEDULES = [
    NoiseSchedule.linear(),
    NoiseSchedule.linear(4000),
    NoiseSchedule.cosine(),
    NoiseSchedule.cosine(4000),
    NoiseSchedule.log_snr_linear(1000),
]

# β_1, β_{T/2}, ᾱ_{T/4}, ᾱ_{T/2}, ᾱ_{3T/4}, ᾱ_T, β̃_2, and ln(β/β̃) at 2 and T/2
GOLDEN = [
    (
        NoiseSchedule.linear(1000),
        (1.000000e-4, 1.004004e-2, 0.5240854, 0.07858724, 3.350550e-3, 4.035830e-5, 5.453188e-5),
        (0.7880, 8.65e-4),
    ),
    (
        NoiseSchedule.linear(4000),
        (2.500000e-5, 2.511878e-3, 0.5237808, 0.07894487, 3.418601e-3, 4.246652e-5, 1.280363e-5),
        (0.7177, 2.16e-4),
    ),
    (
        NoiseSchedule.cosine(1000),
        (4.128422e-5, 3.145886e-3, 0.8470122, 0.4938436, 0.1442721, 2.428767e-9, 2.178950e-5),
        (0.7503, 3.08e-3),
    ),
    (
        NoiseSchedule.cosine(4000),
        (9.865819e-6, 7.883213e-4, 0.8470122, 0.4938436, 0.1442721, 1.517980e-10, 5.007683e-6),
        (0.7084, 7.70e-4),
    ),
]


@pytest.mark.parametrize(("schedule", "values", "log_ratios"), GOLDEN)
def test_golden_values(schedule, values, log_ratios):
    T = schedule.T
    found = [
        *schedule.beta[[1, T // 2]],
        *schedule.alpha_bar[[T // 4, T // 2, 3 * T // 4, T]],
        schedule.beta_tilde[2],
    ]
    np.testing.assert_allclose(found, values, rtol=5e-7)  # half a unit in the last of 7 digits
    ratio = schedule.beta[[2, T // 2]] / schedule.beta_tilde[[2, T // 2]]
    np.testing.assert_allclose(np.log(ratio), log_ratios, rtol=2e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_tables_run_from_the_clean_image_to_noise(schedule):
    tables = [
        schedule.beta,
        schedule.alpha,
        schedule.alpha_bar,
        schedule.one_minus_alpha_bar,
        schedule.beta_tilde,
    ]
    for table in tables:
        assert table.shape == (schedule.T + 1,)
        assert table.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1.0
    assert [table[0] for table in tables] == [0, 1, 1, 0, 0]
    assert schedule.beta_tilde[1] == 0
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert np.all(schedule.snr[1:] < schedule.snr[:-1])
    assert np.all(schedule.beta_tilde[1:] < schedule.beta[1:])


@given(BETAS)
def test_the_definitions_in_exact_arithmetic(beta):
    schedule = NoiseSchedule.from_beta(beta)
    exact = Fraction(1)
    for t, step in enumerate(beta, start=1):
        before, exact = exact, exact * (1 - Fraction(step))
        assert schedule.beta[t] == step
        assert schedule.alpha_bar[t] == pytest.approx(float(exact), rel=1e-14)
        assert schedule.one_minus_alpha_bar[t] == pytest.approx(float(1 - exact), rel=1e-14)
        variance = Fraction(step) * (1 - before) / (1 - exact)
        assert schedule.beta_tilde[t] == pytest.approx(float(variance), rel=1e-14)
        assert schedule.snr[t] == pytest.approx(float(exact / (1 - exact)), rel=1e-13)


def test_what_is_left_of_the_noise_keeps_its_digits_over_a_long_chain():
    schedule = NoiseSchedule.cosine(4000)
    by_logarithms = -np.expm1(np.cumsum(np.log1p(-schedule.beta)))
    np.testing.assert_allclose(schedule.one_minus_alpha_bar, by_logarithms, rtol=1e-13)
    assert schedule.one_minus_alpha_bar[1] == schedule.beta[1]


@pytest.mark.parametrize("T", [21, 50, 1000])
def test_the_linear_schedule_is_scaled_with_its_length(T):
    schedule = NoiseSchedule.linear(T)
    assert schedule.beta[1] == pytest.approx(0.1 / T, rel=1e-14)
    assert schedule.beta[T] == pytest.approx(20 / T, rel=1e-14)
    np.testing.assert_allclose(np.diff(schedule.beta[1:]), 19.9 / T / (T - 1), rtol=1e-9)


@pytest.mark.parametrize("T", [1, 2, 10, 1000])
def test_the_cosine_schedule_is_its_definition_and_clipped_once(T):
    schedule = NoiseSchedule.cosine(T)
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:-1], (f / f[0])[:-1], rtol=1e-9)
    assert np.flatnonzero(schedule.beta == 0.999).tolist() == [T]
    assert schedule.alpha_bar[T] == pytest.approx(0.001 * schedule.alpha_bar[T - 1], rel=1e-12)


@given(st.floats(-15, 0), st.floats(1, 12), st.integers(2, 50))
def test_the_logarithm_of_the_snr_is_linear(gamma_min, gamma_max, T):
    schedule = NoiseSchedule.log_snr_linear(T, gamma_min, gamma_max)
    gamma = np.linspace(gamma_min, gamma_max, T)
    assert schedule.log_snr[0] == np.inf
    np.testing.assert_allclose(-schedule.log_snr[1:], gamma, rtol=0, atol=1e-9)
    np.testing.assert_allclose(schedule.alpha_bar[1:], 1 / (1 + np.exp(gamma)), rtol=1e-9)


REFUSED = {
    "linear-20": lambda: NoiseSchedule.linear(20),
    "linear-0": lambda: NoiseSchedule.linear(0),
    "cosine-0": lambda: NoiseSchedule.cosine(0),
    "cosine-s": lambda: NoiseSchedule.cosine(10, s=-0.1),
    "log-snr-1": lambda: NoiseSchedule.log_snr_linear(1),
    "log-snr-rising": lambda: NoiseSchedule.log_snr_linear(10, 5.0, -5.0),
    "empty": lambda: NoiseSchedule.from_beta([]),
    "scalar": lambda: NoiseSchedule.from_beta(0.1),
    "zero": lambda: NoiseSchedule.from_beta([0.1, 0.0]),
    "one": lambda: NoiseSchedule.from_beta([0.1, 1.0]),
    "nan": lambda: NoiseSchedule.from_beta([np.nan]),
    "no-clean-image": lambda: NoiseSchedule(np.array([0.1, 0.2])),
    "half-a-step": lambda: NoiseSchedule.cosine(10.5),
    "linear-half-a-step": lambda: NoiseSchedule.linear(100.5),
    "a-name": lambda: NoiseSchedule("linear"),
    "a-name-for-beta": lambda: NoiseSchedule.from_beta("linear"),
    "ragged": lambda: NoiseSchedule.from_beta([0.1, [0.2]]),
    "complex": lambda: NoiseSchedule.from_beta([0.1 + 1j]),
    "nothing-left": lambda: NoiseSchedule.from_beta(np.full(2000, 0.5)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_schedule_is_refused(make):
    with pytest.raises(errors.UsageError):
        make()


def test_the_refusal_of_a_short_linear_schedule_says_why():
    with pytest.raises(errors.UsageError, match=r"T >= 21.*20/T") as raised:
        NoiseSchedule.linear(20)
    assert "T = 20" in str(raised.value)


def test_the_schedule_keeps_its_own_copy():
    beta = np.array([0.0, 0.1, 0.2])
    schedule = NoiseSchedule(beta)
    beta[1] = 0.5
    assert schedule.beta[1] == 0.1
