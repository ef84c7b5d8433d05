"""The noise schedule: how much of the image is left at each step.

    q(x_t | x_{t−1}) = 𝒩(√(1 − β_t) x_{t−1}, β_t I)      Ho et al. 2020, arXiv 2006.11239, eq. 2
    q(x_t | x_0)     = 𝒩(√ᾱ_t x_0, (1 − ᾱ_t) I)          eq. 4, α_t = 1 − β_t, ᾱ_t = α_1 α_2 ⋯ α_t
    β̃_t = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)                  eq. 7, variance of q(x_{t−1} | x_t, x_0)
    SNR_t = ᾱ_t / (1 − ᾱ_t)      γ_t = −log SNR_t      ᾱ_t = sigmoid(−γ_t)

The time t is the paper's: tables have T + 1 entries, entry 0 being the clean image.

    linear            β_t from 10⁻⁴ to 0.02 in T = 1000 even steps (section 4). For another T both
                      ends are multiplied by 1000/T, so that a longer chain ends at nearly the
                      same ᾱ_T.
    cosine            ᾱ_t = f(t)/f(0), f(t) = cos² a_t, a_t = (t/T + s)/(1 + s) · π/2, and
                      β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999)
                      (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17)
    log_snr_linear    γ_t from γ_min to γ_max in even steps (Kingma et al. 2021, arXiv 2107.00630)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from tinyddpm.errors import UsageError

Table = npt.NDArray[np.float64]  # (T + 1,), indexed by the paper's t

_COSINE_MAX_BETA = 0.999


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The tables of a chain of T steps, float64 and read-only, indexed by the paper's t.

    Make one with ``linear``, ``cosine``, ``log_snr_linear`` or ``from_beta``.

    Attributes:
        beta: (T + 1,) β_t, each in (0, 1), except β_0 = 0.
        alpha: (T + 1,) 1 − β_t.
        alpha_bar: (T + 1,) ᾱ_t, falling from ᾱ_0 = 1.
        one_minus_alpha_bar: (T + 1,) 1 − ᾱ_t, right to the last digits even if ᾱ_t is nearly 1.
        beta_tilde: (T + 1,) β̃_t; entries 0 and 1 are 0.
    """

    beta: Table
    alpha: Table = field(init=False)
    alpha_bar: Table = field(init=False)
    one_minus_alpha_bar: Table = field(init=False)
    beta_tilde: Table = field(init=False)

    def __post_init__(self) -> None:
        """Check β and make the other tables from it."""
        beta = _numbers(self.beta)
        _check_beta(beta)
        alpha_bar = np.cumprod(1.0 - beta, dtype=np.float64)
        if alpha_bar[-1] == 0.0:
            raise UsageError(
                "some of the image must be left at T: alpha_bar > 0",
                cause=f"the product of 1 - beta over {len(beta) - 1} steps underflows",
                remedy="fewer steps or smaller betas",
            )
        # 1 − ᾱ_t = (1 − ᾱ_{t−1}) + β_t ᾱ_{t−1}: a sum of positive terms, so that nothing cancels.
        one_minus_alpha_bar = np.cumsum(beta * np.roll(alpha_bar, 1))
        beta_tilde = np.zeros_like(beta)
        beta_tilde[1:] = beta[1:] * one_minus_alpha_bar[:-1] / one_minus_alpha_bar[1:]
        self._freeze("beta", beta)
        self._freeze("alpha", 1.0 - beta)
        self._freeze("alpha_bar", alpha_bar)
        self._freeze("one_minus_alpha_bar", one_minus_alpha_bar)
        self._freeze("beta_tilde", beta_tilde)

    def _freeze(self, name: str, table: Table) -> None:
        table.setflags(write=False)
        object.__setattr__(self, name, table)

    @classmethod
    def from_beta(cls, beta: npt.ArrayLike) -> Self:
        """Return the schedule of ``beta`` (T,), the β of t = 1 … T, each strictly in (0, 1).

        Raises:
            UsageError: ``beta`` is not a list of such numbers, or ᾱ_T underflows.
        """
        steps = _numbers(beta)
        if steps.ndim != 1:
            raise UsageError(
                "beta must be a list of T numbers", cause=f"its shape is {steps.shape}"
            )
        return cls(np.concatenate([[0.0], steps]))

    @classmethod
    def linear(cls, T: int = 1000) -> Self:
        """Return the linear schedule of Ho et al. 2020 (section 4), scaled to T steps.

        β_t runs evenly from 10⁻⁴ · 1000/T to 0.02 · 1000/T. The scaling is that of Nichol &
        Dhariwal 2021.

        Raises:
            UsageError: T ≤ 20, where the last β, 20/T, would not be less than 1.
        """
        _check_steps(T, 21, "its last beta is 20/T, which must be less than 1")
        scale = 1000.0 / T
        return cls.from_beta(np.linspace(scale * 1e-4, scale * 0.02, T))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> Self:
        """Return the cosine schedule of Nichol & Dhariwal 2021 (eq. 17).

        ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2). β_t = 1 − ᾱ_t/ᾱ_{t−1} is then
        clipped at 0.999, and the table of ᾱ is the product of the clipped 1 − β.

        Raises:
            UsageError: T < 1, or the offset ``s`` is negative.
        """
        _check_steps(T, 1, "a chain has steps")
        if not s >= 0.0:
            raise UsageError("the offset s of the cosine schedule must be >= 0", cause=f"s = {s}")
        angle = (np.arange(T + 1) / T + s) / (1.0 + s) * (np.pi / 2.0)
        before, after = angle[:-1], angle[1:]
        # 1 − cos² a′ / cos² a = sin(a′ − a) sin(a′ + a) / cos² a: nothing cancels at small β.
        beta = np.sin(after - before) * np.sin(after + before) / np.cos(before) ** 2
        return cls.from_beta(np.minimum(beta, _COSINE_MAX_BETA))

    @classmethod
    def log_snr_linear(cls, T: int, gamma_min: float = -13.3, gamma_max: float = 5.0) -> Self:
        """Return the schedule whose −log SNR runs evenly from ``gamma_min`` to ``gamma_max``.

        ᾱ_t = sigmoid(−γ_t), γ_t = −log SNR_t (Kingma et al. 2021, arXiv 2107.00630).

        Raises:
            UsageError: T < 2, or ``gamma_min`` is not less than ``gamma_max``.
        """
        _check_steps(T, 2, "it has two ends, gamma_min and gamma_max")
        if not gamma_min < gamma_max:
            raise UsageError(
                "the signal-to-noise ratio must fall: gamma_min < gamma_max",
                cause=f"gamma_min = {gamma_min}, gamma_max = {gamma_max}",
            )
        gamma = np.concatenate([[-np.inf], np.linspace(gamma_min, gamma_max, T)])
        # 1 − sigmoid(−γ′)/sigmoid(−γ) = sigmoid(γ′) (1 − exp(γ − γ′))
        return cls.from_beta(-np.expm1(-np.diff(gamma)) / (1.0 + np.exp(-gamma[1:])))

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @property
    def snr(self) -> Table:
        """(T + 1,) ᾱ_t / (1 − ᾱ_t), the signal-to-noise ratio; ∞ at t = 0."""
        with np.errstate(divide="ignore"):
            ratio: Table = self.alpha_bar / self.one_minus_alpha_bar
        return ratio

    @property
    def log_snr(self) -> Table:
        """(T + 1,) log ᾱ_t − log(1 − ᾱ_t); ∞ at t = 0."""
        with np.errstate(divide="ignore"):
            log_ratio: Table = np.log(self.alpha_bar) - np.log(self.one_minus_alpha_bar)
        return log_ratio


def _numbers(beta: npt.ArrayLike) -> Table:
    """A copy of ``beta`` in float64."""
    try:
        return np.array(beta, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "beta must be a list of T numbers",
            cause=str(error),
            remedy="NoiseSchedule.linear(1000), .cosine(1000), or .from_beta with such a list",
        ) from error


def _check_steps(T: int, least: int, reason: str) -> None:
    if not isinstance(T, int | np.integer) or least > T:
        raise UsageError(
            f"this schedule needs a whole number T >= {least}: {reason}",
            cause=f"T = {T}",
            remedy=f"at least {least} steps, or NoiseSchedule.from_beta",
        )


def _check_beta(beta: Table) -> None:
    """Raise unless ``beta`` is (T + 1,), 0 and then numbers in (0, 1)."""
    if beta.ndim != 1 or len(beta) < 2 or beta[0] != 0.0:
        raise UsageError(
            "a schedule has at least one step, and its table starts with beta = 0 at t = 0",
            cause=f"a table of shape {beta.shape}",
            remedy="NoiseSchedule.from_beta with the betas of t = 1 ... T",
        )
    wrong = np.flatnonzero(~((beta[1:] > 0.0) & (beta[1:] < 1.0))) + 1
    if len(wrong):
        raise UsageError(
            "every beta must lie strictly between 0 and 1",
            cause=f"beta = {beta[wrong[0]]} at t = {wrong[0]}, and {len(wrong)} such steps in all",
        )
