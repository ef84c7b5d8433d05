"""Densities that several plots draw."""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import Array

KINDS = ((0.7, -0.6, 0.01), (0.3, 0.5, 0.03))  # of data: weight, mean, variance of a Gaussian


def normal_density(x: Array, mean: float, variance: float) -> Array:
    """Return the density of 𝒩(mean, variance) at ``x``."""
    density: Array = np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    return density


def noised_density(x: Array, mean: float, variance: float, alpha_bar: float) -> Array:
    """Return the density of x_t at ``x`` where x_0 ~ 𝒩(mean, variance)."""
    return normal_density(x, np.sqrt(alpha_bar) * mean, alpha_bar * variance + 1 - alpha_bar)


def kinds_density(x: Array, alpha_bar: float) -> Array:
    """Return the density of x_t at ``x`` where x_0 is of ``KINDS``."""
    parts = [w * noised_density(x, m, v, alpha_bar) for w, m, v in KINDS]
    density: Array = np.sum(parts, axis=0)
    return density
