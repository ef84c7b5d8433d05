"""The way back, and what is to be maximised: concepts 12 to 15."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.diffusion import telescoping
from tinyddpm.diffusion.affine_chain import AffineChain, affine_chain
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule

_PIXEL = (1, 1, 1)


def _check_reverse_chain() -> Check:
    n, diffusion = 20_000, GaussianDiffusion(NoiseSchedule.linear(50))
    model = GaussianOracle(diffusion.schedule, 0.0, 1.0)
    steps = diffusion.sample_steps(model, (n, *_PIXEL), seed=12, clip=False, dtype=np.float64)
    return on_average(
        "Var[x_{t−1}], t = 50 … 2, of 20,000 chains back from noise, with the exact model",
        [(x * x).mean() for t, x, _ in steps if t > 1],
        "for data 𝒩(0, I) the forward chain leaves every x_t ~ 𝒩(0, I), and so must the way back",
        1.0,
        math.sqrt(2.0 / n),
    )


def _small_chain() -> tuple[GaussianDiffusion, GaussianOracle, AffineChain]:
    """One pixel, three steps, data 𝒩(0.3, 0.2) and the model that is exact for them."""
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.1, 0.3, 0.5]))
    model = GaussianOracle(diffusion.schedule, 0.3, 0.2)
    return diffusion, model, affine_chain(diffusion, model, _PIXEL)


def _kernel(
    diffusion: GaussianDiffusion, model: GaussianOracle, grid: Array, t: int
) -> tuple[Array, float]:
    """The means of p(x_{t−1} | x_t) at each x_t of ``grid``, and its variance."""
    xt = grid.reshape(-1, *_PIXEL)
    reverse = diffusion.p_mean_variance(model(xt, np.full(len(xt), t)), xt, t, clip=False)
    return reverse.mean.ravel(), float(reverse.variance[0, 0, 0, 0])


def _check_latent_variables() -> Check:
    diffusion, model, chain = _small_chain()
    x, dx = independent.grid(0.0, 8.0, 801)
    p = independent.density(x, 0.0, 1.0)
    for t in (3, 2, 1):
        mean, variance = _kernel(diffusion, model, x, t)
        p = independent.density(x[:, None], mean, variance) @ p * dx
    here = np.array([320, 400, 430])  # x_0 = −1.6, 0, 0.6
    return exactly(
        "log p(x_0) of a chain of three steps, at x_0 = −1.6, 0 and 0.6",
        chain.log_likelihood(x[here].reshape(-1, *_PIXEL)),
        "the integral over x_1, x_2, x_3 summed on a grid of 801 points each",
        np.log(p[here]),
        rtol=1e-10,
    )


def _table_latent_variables() -> str:
    mean, variance = _small_chain()[2].marginals()
    rows = [(t, float(mean[t, 0, 0, 0]), float(variance[t, 0, 0, 0])) for t in (3, 2, 1, 0)]
    return table(("t", "mean of p(x_t)", "variance"), rows)


def _check_jensen() -> Check:
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.2, 0.4]))
    model, x0 = GaussianOracle(diffusion.schedule, 0.3, 0.2), 0.5
    chain = affine_chain(diffusion, model, _PIXEL)
    x, dx = independent.grid(0.0, 6.0, 601)
    q1 = independent.density(x, math.sqrt(0.8) * x0, 0.2)  # (x_1,)
    q2 = independent.density(x, math.sqrt(0.6) * x[:, None], 0.4)  # (x_1, x_2)
    (mean1, variance1), (mean2, variance2) = (_kernel(diffusion, model, x, t) for t in (1, 2))
    log_p = _log_density(x, 0.0, 1.0) + _log_density(x[:, None], mean2, variance2)
    log_p = log_p + _log_density(x0, mean1, variance1)[:, None]
    log_q = _log_density(x, math.sqrt(0.8) * x0, 0.2)[:, None]
    log_q = log_q + _log_density(x, math.sqrt(0.6) * x[:, None], 0.4)
    integral = (q1[:, None] * q2 * (log_q - log_p)).sum() * dx * dx
    return exactly(
        "L_0 + L_1 + L_2 of one pixel, nats",
        chain.bound_terms(np.full((1, *_PIXEL), x0)).sum(),
        "−E_q log p/q, a double integral over x_1 and x_2 on a grid",
        integral,
        rtol=1e-10,
    )


def _log_density(x: Array | float, mean: Array | float, variance: float) -> Array:
    square = (np.asarray(x) - mean) ** 2 / variance
    value: Array = -0.5 * (square + math.log(2 * math.pi * variance))
    return value


def _table_jensen() -> str:
    diffusion = GaussianDiffusion(NoiseSchedule.linear(100))
    rows = []
    for variance in (0.01, 0.1, 0.5, 1.0):
        chain = affine_chain(diffusion, GaussianOracle(diffusion.schedule, 0.0, variance), _PIXEL)
        x0 = np.full((1, *_PIXEL), math.sqrt(variance))
        exact, bound = -chain.log_likelihood(x0)[0], chain.bound_terms(x0).sum()
        rows.append((variance, exact, bound, bound - exact))
    return table(("variance of data, linear chain", "−log p(x_0)", "bound", "gap"), rows)


def _foresees(xt: Array, t: IntArray) -> Array:
    """A model of x_0 that is not good but is within [−1, 1]."""
    x0_hat: Array = np.tanh(xt - 0.1 * t.reshape(-1, 1, 1, 1))
    return x0_hat


def _small_path() -> tuple[GaussianDiffusion, list[Array]]:
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.1, 0.2, 0.4]), "x0")
    x0 = np.array([5, 100, 200, 255]).reshape(4, *_PIXEL) / 127.5 - 1
    return diffusion, telescoping.forward_path(diffusion, x0, seed=15)


def _log_ratio_by_hand(beta: list[float], path: list[float]) -> float:
    """log q(x_1 … x_T | x_0)/p(x_0 … x_T) of one pixel, one factor at a time."""
    signals, variances = independent.walk(beta)
    total = -math.log(NormalDist().pdf(path[-1]))
    for t, b in enumerate(beta, start=1):
        x0_hat = math.tanh(path[t] - 0.1 * t)
        total += math.log(NormalDist(math.sqrt(1 - b) * path[t - 1], math.sqrt(b)).pdf(path[t]))
        if t == 1:
            # σ_1² is β̃_2, the variance of x_1 given x_2 and x_0.
            _, variance = independent.bayes(0.0, variances[0], 1 - beta[1], 0.0)
            level = round(127.5 * (path[0] + 1))
            p = independent.byte_probability(level, x0_hat, math.sqrt(variance))
            total -= math.log(p)
        else:
            before = signals[t - 2] * x0_hat, variances[t - 2]
            mean, _ = independent.bayes(*before, 1 - b, path[t])
            total -= math.log(NormalDist(mean, math.sqrt(b)).pdf(path[t - 1]))
    return total


def _check_telescoping() -> Check:
    diffusion, path = _small_path()
    columns = np.stack([x.ravel() for x in path], axis=1).tolist()
    beta = diffusion.schedule.beta[1:].tolist()
    return exactly(
        "log q/p of four paths after the cancellation: posteriors, L_T and decoder",
        telescoping.log_ratio_after(diffusion, _foresees, path),
        "before it: the steps of both chains, one statistics.NormalDist at a time",
        [_log_ratio_by_hand(beta, column) for column in columns],
        rtol=1e-10,
    )


def _table_telescoping() -> str:
    diffusion, path = _small_path()
    before = telescoping.log_ratio_before(diffusion, _foresees, path)
    after = telescoping.log_ratio_after(diffusion, _foresees, path)
    rows = [
        (i + 1, f"{b:.12f}", f"{a:.12f}")
        for i, (b, a) in enumerate(zip(before, after, strict=True))
    ]
    return table(("path", "before", "after the cancellation"), rows)


CONCEPTS = (
    Concept(
        number=12,
        name="reverse-chain",
        title="The reverse chain",
        text="""Generation starts from pure noise and removes a little of it at each step, with a
        Gaussian whose mean (and perhaps variance) a network computes from x_t and t. For small
        steps the true way back is nearly Gaussian too, which is why so many steps are taken. The
        figure walks back with the exact model of a small data set, nothing trained.""",
        equation="""p_θ(x_0 … x_T) = p(x_T) Π_t p_θ(x_{t−1} | x_t),   p(x_T) = 𝒩(0, I)
        p_θ(x_{t−1} | x_t) = 𝒩(μ_θ(x_t, t), Σ_θ(x_t, t))""",
        functions=(GaussianDiffusion.p_mean_variance, GaussianDiffusion.sample_steps),
        check=_check_reverse_chain,
        figure="reverse-trajectory",
    ),
    Concept(
        number=13,
        name="latent-variables",
        title="Latent variables, and a marginal that nobody can compute",
        text="""x_1 … x_T are latent: they are not in the data. The probability of an image is
        the integral over all paths that end in it, and with a network inside that cannot be
        done. It can be done if the model is affine, because every p(x_t) is Gaussian then. That
        is an exact yardstick for the bound that follows.""",
        equation="p_θ(x_0) = ∫ p_θ(x_0, x_1 … x_T) dx_1 … dx_T",
        functions=(AffineChain.log_likelihood,),
        check=_check_latent_variables,
        table=_table_latent_variables,
    ),
    Concept(
        number=14,
        name="jensen",
        title="Maximum likelihood, and Jensen's inequality",
        text="""We want parameters that make the data likely: maximise log p_θ(x_0). Multiply and
        divide the integrand by q, and the integral becomes an expectation over forward paths.
        The logarithm is concave: a chord lies below the curve, so the mean of the logarithms
        lies below the logarithm of the mean. That gives a bound which needs only expectations.
        It is short of the truth by KL(q(x_1 … x_T | x_0) ‖ p_θ(x_1 … x_T | x_0)).""",
        equation="""log p_θ(x_0) = log E_q[p_θ(x_0 … x_T)/q(x_1 … x_T | x_0)]
                     ≥ E_q[log p_θ(x_0 … x_T)/q(x_1 … x_T | x_0)]   since log E[X] ≥ E[log X]""",
        functions=(AffineChain.bound_terms, AffineChain.log_likelihood),
        check=_check_jensen,
        table=_table_jensen,
        figure="jensen",
    ),
    Concept(
        number=15,
        name="telescoping",
        title="From a ratio of joints to a sum of divergences",
        text="""Take t = 1 out of the products, let every q condition on x_0 as well, and turn it
        round by Bayes' rule. In the product over t the fractions q(x_t | x_0)/q(x_{t−1} | x_0)
        cancel, all but the last. What is left compares, at each t, two distributions of x_{t−1}
        given x_t.
        An expectation over whole paths of something that depends on x_t alone is one over q(x_t
        | x_0). On every single path both sides are the same number.""",
        equation="""q(x_t | x_{t−1}) = q(x_{t−1} | x_t, x_0) q(x_t | x_0)/q(x_{t−1} | x_0)
        −log p_θ(x_0) ≤ L_0 + Σ_{t>1} L_{t−1} + L_T
        L_{t−1} = E_q KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t))""",
        functions=(telescoping.log_ratio_before, telescoping.log_ratio_after),
        check=_check_telescoping,
        table=_table_telescoping,
        figure="bound-terms",
    ),
)
