"""A check that cannot fail says nothing: with a bug in the source, the concept's check rejects it.

Many of these bugs have been published.
"""

import pytest
from montecarlo import broken

from tinyddpm.concepts.catalogue import CONCEPTS, find
from tinyddpm.data import glyphs, pixels
from tinyddpm.diffusion import (
    affine_chain,
    bound,
    ddim,
    decoder,
    gaussian,
    guidance,
    kl,
    learned_variance,
    losses,
    respacing,
    sampling,
    schedule,
    score,
    telescoping,
    timestep_sampling,
)
from tinyddpm.figures import strips
from tinyddpm.nn import unet
from tinyddpm.ops import attention, group_norm, normal, scale_shift, time_embedding
from tinyddpm.training import shard

BUGS = [
    (
        "data-distribution",
        glyphs,
        "index + _FIRST_SAMPLE[split]",
        "0 * index + _FIRST_SAMPLE[split]",
    ),
    ("inverse-cdf", normal, "centre_r = 0.425**2", "centre_r = 0.42**2"),
    (
        "forward-step",
        gaussian,
        "per_image(np.sqrt(self.schedule.beta), t",
        "per_image(self.schedule.beta, t",
    ),
    ("pixels", pixels, "xp.rint((x.clip(-1, 1) + 1) * 127.5)", "(x.clip(-1, 1) + 1) * 127.5"),
    (
        "variance-preserving",
        gaussian,
        "per_image(np.sqrt(self.schedule.alpha), t",
        "per_image(self.schedule.alpha, t",
    ),
    (
        "pure-noise",
        schedule,
        "np.linspace(scale * 1e-4, scale * 0.02, T)",
        "np.linspace(scale * 1e-4, scale * 0.01, T)",
    ),
    ("markov", telescoping, "diffusion.q_step(path[-1], t", "diffusion.q_step(path[t // 3], t"),
    ("closed-form", schedule, "np.roll(alpha_bar, 1)", "alpha_bar"),
    ("linear", schedule, "scale = 1000.0 / T", "scale = 1.0"),
    (
        "cosine",
        schedule,
        "(np.arange(T + 1) / T + s) / (1.0 + s)",
        "(np.arange(T + 1) / T + s) / (1.0 + 2 * s)",
    ),
    ("cosine", schedule, "_COSINE_MAX_BETA = 0.999", "_COSINE_MAX_BETA = 0.01"),
    (
        "noising-figures",
        strips,
        "            t,\n            rng",
        "            t // 2,\n            rng",
    ),
    ("reverse-chain", sampling, "xp.sqrt(variance) * xp", "variance * xp"),
    (
        "latent-variables",
        affine_chain,
        "self.slope[t] ** 2 * spread[t]",
        "self.slope[t] * spread[t]",
    ),
    ("jensen", affine_chain, "ratio - 1.0 - np.log(ratio)", "ratio - np.log(ratio)"),
    ("telescoping", telescoping, "range(2, schedule.T + 1)", "range(3, schedule.T + 1)"),
    ("prior-term", bound, "math.sqrt(schedule.alpha_bar[-1])", "schedule.alpha_bar[-1]"),
    ("decoder", decoder, "x0 > _LAST_EDGE", "x0 > 2.0"),
    ("decoder", decoder, "xp.log1p(-xp.exp(-gap))", "-xp.exp(-gap)"),
    ("first-variance", gaussian, "schedule.beta_tilde[2] if", "1e-20 if"),
    (
        "worked-example",
        decoder,
        "(centred + HALF_BIN) * inv_std",
        "(centred + 2 * HALF_BIN) * inv_std",
    ),
    (
        "posterior",
        gaussian,
        "np.sqrt(schedule.alpha[1:]) * noise_before",
        "schedule.alpha[1:] * noise_before",
    ),
    ("mean-from-eps", gaussian, "(xt - noise * output) / signal", "xt - noise * output"),
    ("kl-weight", bound, "spread = 2.0 * variance[1:]", "spread = variance[1:]"),
    ("kl-weight", kl, "xp.exp(-log_variance2)", "xp.exp(-log_variance1)"),
    ("simple-loss", losses, "(error * error).mean(", "(error * error).sum("),
    ("rectangle", decoder, "math.log(2.0 * HALF_BIN)", "math.log(HALF_BIN)"),
    (
        "unet",
        unet,
        '"middle.1", self.width, attention=False',
        '"middle.1", self.width, attention=True',
    ),
    (
        "time-embedding",
        time_embedding,
        "dtype=t.real.dtype) / (half - shift)",
        "dtype=t.real.dtype) / half",
    ),
    (
        "attention",
        attention,
        "softmax((q @ _transposed(k)) / math.sqrt(width))",
        "softmax(q @ _transposed(k))",
    ),
    (
        "attention",
        group_norm,
        "(xc * xc).mean(axis=(1, 3), keepdims=True)",
        "(xc * xc).mean(axis=1, keepdims=True)",
    ),
    ("attention", scale_shift, "x * (1 + scale[:, None, None])", "x * scale[:, None, None]"),
    ("training", shard, "xt, network_time(shard.t), labels", "xt, shard.t, labels"),
    (
        "training",
        shard,
        "x0 = from_bytes(self._dataset.images[shard.indices])",
        "x0 = (self._dataset.images[shard.indices] / 255).astype('float32')",
    ),
    ("sampling", sampling, "noise(t)) if t > 1 else mean", "noise(t))"),
    (
        "fixed-variance",
        gaussian,
        'schedule.beta if variance == "beta"',
        'schedule.beta if variance == "beta_tilde"',
    ),
    ("learned-variance", learned_variance, "fraction = 0.5 * (v + 1)", "fraction = v"),
    ("hybrid-loss", losses, "per_nat = diffusion.schedule.T / (", "per_nat = 1.0 / ("),
    ("hybrid-loss", losses, "(math.prod(x0.shape[1:]) * math.log(2.0))", "math.prod(x0.shape[1:])"),
    (
        "stop-gradient",
        losses,
        "doutput[..., : error.shape[-1]] = _error",
        "doutput[..., : error.shape[-1]] += _error",
    ),
    ("importance", timestep_sampling, "1.0 / (self.T * p[t])", "np.ones(len(t))"),
    ("respacing", respacing, "log_alpha, timesteps[:-1]", "log_alpha, timesteps[1:] - 1"),
    ("ddim", ddim, "mean = signal * x0_hat + per_image", "mean = signal * x0_hat - per_image"),
    (
        "v-prediction",
        gaussian,
        "v: Array = signal * eps - noise * x0",
        "v: Array = signal * eps + noise * x0",
    ),
    ("score", score, "score: Array = -eps / noise", "score: Array = -eps"),
    ("snr", bound, "0.5 * (schedule.snr[:-1]", "1.0 * (schedule.snr[:-1]"),
    ("guidance", guidance, "(1.0 + weight) * conditional", "weight * conditional"),
    ("bits-per-dim", bound, "(self.dims * math.log(2.0))", "self.dims"),
]


@pytest.mark.parametrize(
    ("name", "module", "right", "wrong"), BUGS, ids=[f"{bug[0]}: {bug[3]}" for bug in BUGS]
)
def test_a_bug_is_seen(name, module, right, wrong):
    assert find(name).check().holds
    with broken(module, right, wrong):
        assert not find(name).check().holds
    assert find(name).check().holds


def test_every_concept_has_a_bug_here():
    assert {bug[0] for bug in BUGS} == {concept.name for concept in CONCEPTS}
