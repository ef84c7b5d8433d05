"""The Fréchet distance of two sets of features (Dowson & Landau 1982; Heusel et al. 2017,
arXiv:1706.08500, with features of another network), and how large it is by chance alone.

Between two normal distributions,

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½)

The trace of the last root is the sum of the square roots of the eigenvalues of a symmetric matrix.
So all of it is done by symmetric eigendecomposition, in float64.

Two samples of the same distribution, n and m images, are not at distance 0. Let λ be the
eigenvalues of its covariance. To first order in 1/n and 1/m, the squared distance of the means is
Σ λ_i (1/n + 1/m), and two covariances that differ by Δ, in the axes of the eigenvectors, add
½ Σ_ij Δ_ij²/(λ_i + λ_j). For normal features E Δ_ij² = λ_i λ_j (1 + [i = j]) (1/n + 1/m), and so

    E d² ≈ C (1/n + 1/m),   C = Σ_i λ_i + ½ (Σ_ij λ_i λ_j/(λ_i + λ_j) + ½ Σ_i λ_i)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array, Floats
from tinyddpm.errors import NonFiniteError, UsageError


class Moments(NamedTuple):
    """What the distance sees of a set of features."""

    mean: Floats  # (D,)
    covariance: Floats  # (D, D), unbiased


def moments(features: Array) -> Moments:
    """Return the moments of ``features`` (N, D).

    Raises:
        UsageError: fewer than two images.
        NonFiniteError: a feature is not finite.
    """
    if len(features) < 2:
        raise UsageError("a covariance needs at least 2 images", cause=f"got {len(features)}")
    x = features.astype(np.float64)
    if not np.isfinite(x).all():
        raise NonFiniteError(
            "a feature is not finite", remedy="another classifier, or other images"
        )
    mean = x.mean(axis=0)
    x -= mean
    return Moments(mean, x.T @ x / (len(x) - 1))


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½) (Dowson & Landau 1982).

    It is at least 0, up to rounding. Where a covariance is singular, the square roots turn rounding
    by 1e-16 of the eigenvalues into 1e-8.
    """
    difference = one.mean - other.mean
    root = _square_root(one.covariance)
    cross = _eigenvalues(root @ other.covariance @ root)
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return float(difference @ difference + traces - 2 * np.sqrt(cross).sum())


def floor_constant(reference: Moments) -> float:
    """Return C of ``reference``: two samples of it are at distance C (1/n + 1/m) on average."""
    eigenvalues = _eigenvalues(reference.covariance)
    variances = eigenvalues[eigenvalues > 0]
    pairs = variances[:, None] * variances / (variances[:, None] + variances)
    return float(variances.sum() + 0.5 * (pairs.sum() + 0.5 * variances.sum()))


def _square_root(covariance: Floats) -> Floats:
    """The symmetric square root."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(eigenvalues.clip(min=0.0))) @ vectors.T
    return root


def _eigenvalues(matrix: Floats) -> Floats:
    """The eigenvalues of a matrix that is, up to rounding, symmetric and positive."""
    values: Floats = np.linalg.eigvalsh((matrix + matrix.T) / 2).clip(min=0.0)
    return values
