"""Identities that must hold if the package is right, tried on draws: two ways to one number.

To test a formula against itself finds no wrong formula. Here each claim is compared with another
derivation of it, or with counting: the chain walked step by step with its closed form, a posterior
with least squares, an integral with frequencies. Each comparison has a null distribution, and a
p-value that is a proved bound (``statistics``); what must hold to the last digits has a relative
error and a tolerance instead.
"""

from __future__ import annotations

from tinyddpm.identities import forward, gaussians, likelihood, networks, objective, samplers
from tinyddpm.identities.registry import Identity, Outcome, Setting

IDENTITIES: tuple[Identity, ...] = (
    gaussians.inverse_cdf_and_box_muller,
    forward.variances_add,
    forward.chain_makes_the_closed_form,
    forward.given_the_present_the_past_adds_nothing,
    forward.posterior_is_a_regression,
    gaussians.divergence_is_mean_log_ratio,
    forward.the_end_is_noise,
    likelihood.ratio_has_the_mean_of_the_terms,
    likelihood.the_bound_is_below,
    likelihood.term_is_a_weighted_square,
    likelihood.weights_are_drops_of_the_snr,
    gaussians.bins_are_frequencies,
    gaussians.rectangle_misses_by_the_curvature,
    objective.loss_at_the_start,
    objective.weighted_loss_is_unbiased,
    samplers.last_step_has_no_noise,
    objective.ends_of_the_learned_variance,
    objective.hybrid_gradient,
    samplers.samples_have_the_law_of_the_chain,
    samplers.ddim_is_ancestral,
    samplers.respaced_chain_is_part_of_the_whole,
    networks.average_is_a_weighted_sum,
    networks.dropout_keeps_the_mean,
    networks.initial_values_are_uniform,
    networks.time_is_the_images_own,
    networks.normalisation_ignores_offset_and_scale,
)

__all__ = ["IDENTITIES", "Identity", "Outcome", "Setting"]
