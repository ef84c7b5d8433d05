"""For each identity bugs that it must see: patches of the package's own source.

Those with a project's name really occurred there (as read in the sources or the issues of it); the
others are slips that its formula invites.
"""

from typing import NamedTuple

from tinyddpm import optim, rng
from tinyddpm.data import pixels
from tinyddpm.diffusion import (
    affine_chain,
    bound,
    ddim,
    decoder,
    gaussian,
    kl,
    learned_variance,
    losses,
    oracles,
    respacing,
    sampling,
    schedule,
    telescoping,
    timestep_sampling,
)
from tinyddpm.nn import layers, masks, parameters
from tinyddpm.ops import dropout, group_norm, normal, time_embedding

CLIP_THEN_MEAN = """\
        if clip:
            x0_hat = xp_of(x0_hat).clip(x0_hat, -1.0, 1.0)
        mean, _ = self.q_posterior(x0_hat, xt, times)
"""
MEAN_THEN_CLIP = """\
        mean, _ = self.q_posterior(x0_hat, xt, times)
        if clip:
            x0_hat = xp_of(x0_hat).clip(x0_hat, -1.0, 1.0)
"""
LOGARITHMS = 'np.log(_fixed_variance(schedule, "beta_tilde")), np.log(upper)'
NO_LOGARITHMS = '_fixed_variance(schedule, "beta_tilde"), upper'
TWO_PASSES = "r = ((xc * xc).mean(axis=(1, 3), keepdims=True)"
ONE_PASS = (
    "r = ((xg * xg).mean(axis=(1, 3), keepdims=True) - xg.mean(axis=(1, 3), keepdims=True) ** 2"
)


class Mutant(NamedTuple):
    """``wrong`` in place of ``right`` in the source of ``module``."""

    module: object
    right: str
    wrong: str


MUTANTS = {
    "i": [
        Mutant(normal, "outer = xp.sign(q) * ", "outer = "),
        Mutant(rng, "2.0 * math.pi * u[..., 1]", "math.pi * u[..., 1]"),
        Mutant(rng, "np.sqrt(-2.0 * np.log", "np.sqrt(-np.log"),
        Mutant(rng, "radius * np.sin(angle)", "radius * np.cos(angle)"),
    ],
    "ii": [
        Mutant(gaussian, "per_image(np.sqrt(self.schedule.beta)", "per_image((self.schedule.beta)"),
        Mutant(
            gaussian, "per_image(np.sqrt(self.schedule.alpha)", "per_image((self.schedule.alpha)"
        ),
        Mutant(schedule, "beta * np.roll(alpha_bar, 1)", "beta * alpha_bar"),
    ],
    "iii": [
        # AkiRusProd/numpy-diffusion clips the β of the cosine schedule to [0.01, 0.99].
        Mutant(schedule, "np.minimum(beta, _COSINE_MAX_BETA)", "np.clip(beta, 0.01, 0.99)"),
        # t counted from 0 in one place and from 1 in another: the most common bug of all.
        Mutant(
            gaussian, "per_image(self._noise, times, x)", "per_image(self._noise, times - 1, x)"
        ),
        Mutant(schedule, "np.cumprod(1.0 - beta", "np.cumprod(1.0 - np.roll(beta, 1)"),
        Mutant(schedule, "np.cumprod(1.0 - beta, dtype=np.float64)", "1.0 - np.cumsum(beta)"),
        Mutant(schedule, "beta * np.roll(alpha_bar, 1)", "beta * alpha_bar"),
        Mutant(gaussian, "signal * x_prev + noise * eps", "x_prev + noise * eps"),
        Mutant(gaussian, "np.sqrt(schedule.alpha_bar)", "schedule.alpha_bar"),
        Mutant(gaussian, "per_image(np.sqrt(self.schedule.beta)", "per_image((self.schedule.beta)"),
        Mutant(gaussian, "signal * x0 + noise * eps", "signal * x0 + noise**2 * eps"),
    ],
    "iv": [
        Mutant(rng, "counter[..., 2] = step", "counter[..., 2] = 0 * step"),
        Mutant(gaussian, "signal * x_prev + noise * eps", "x_prev + noise * eps"),
    ],
    "v": [
        Mutant(gaussian, "    return from_x0, from_xt\n", "    return from_xt, from_x0\n"),
        Mutant(gaussian, "np.sqrt(schedule.alpha_bar[:-1])", "np.sqrt(schedule.alpha_bar[1:])"),
        Mutant(gaussian, "schedule.alpha[1:]) * noise_before", "schedule.alpha[1:]) * noise"),
        Mutant(gaussian, "np.sqrt(schedule.alpha[1:])", "np.sqrt(schedule.alpha[:-1])"),
        Mutant(gaussian, "mean = from_x0 +", "mean = -from_x0 +"),
        Mutant(gaussian, "per_image(self.schedule.beta_tilde", "per_image(self.schedule.beta"),
        Mutant(
            schedule,
            'self._freeze("beta_tilde", beta_tilde)',
            'self._freeze("beta_tilde", np.append(beta_tilde[1:], beta[-1]))',
        ),
        Mutant(schedule, "one_minus_alpha_bar[:-1] / one", "one_minus_alpha_bar[1:] / one"),
    ],
    "vi": [
        Mutant(kl, "log_variance1 - log_variance2", "log_variance2 - log_variance1"),
        Mutant(kl, "xp.exp(-log_variance2)", "xp.exp(-log_variance1)"),
        Mutant(kl, "xp.exp(-log_variance2)", "xp.exp(-0.5 * log_variance2)"),
        Mutant(kl, "xp.expm1(ratio) - ratio", "xp.exp(ratio) - ratio"),
        Mutant(kl, "0.5 * (from", "(from"),
    ],
    "vii": [
        # AkiRusProd/numpy-diffusion and numpy-nn-model, and the "deadly bug" that is issue 14 of
        # zoubohao/DenoisingDiffusionProbabilityModel-ddpm-: β of T = 1000 for any T.
        Mutant(schedule, "scale = 1000.0 / T", "scale = 1.0"),
        Mutant(bound, "math.sqrt(schedule.alpha_bar[-1])", "schedule.alpha_bar[-1]"),
        Mutant(bound, "np.log(schedule.one_minus_alpha_bar[-1:])", "np.log(schedule.beta[-1:])"),
        Mutant(bound, "xp_of(x0).asarray(log_variance)", "xp_of(x0).asarray(0 * log_variance)"),
    ],
    "viii": [
        # t counted from 0 in one place and from 1 in another.
        Mutant(bound, "np.flatnonzero(times == 1)", "np.flatnonzero(times == 0)"),
        Mutant(bound, "np.flatnonzero(times == 1)", "np.flatnonzero(times == 2)"),
        Mutant(bound, "normal_kl(*kl)", "normal_kl(kl[2], kl[3], kl[0], kl[1])"),
        Mutant(bound, "= per_image_sum(normal_kl(*kl))", "= 0.5 * per_image_sum(normal_kl(*kl))"),
        Mutant(bound, "NormalKlSaved(from_x0 * x0, log", "NormalKlSaved(0 * x0, log"),
        Mutant(
            bound,
            "per_image(diffusion.log_variance_ends[0]",
            "per_image(diffusion.log_variance_ends[1]",
        ),
        Mutant(bound, "nats[rows] = -per_image_sum", "nats[rows] = per_image_sum"),
        Mutant(bound, "math.sqrt(schedule.alpha_bar[-1])", "math.sqrt(schedule.alpha_bar[0])"),
        Mutant(telescoping, "range(2, schedule.T + 1)", "range(1 + 2, schedule.T + 1)"),
        Mutant(telescoping, "marginal - _log_normal(path[-1], 0.0, 0.0)", "marginal"),
        Mutant(telescoping, "math.log(schedule.beta_tilde[t])", "math.log(schedule.beta[t])"),
        Mutant(
            telescoping,
            "return log_ratio - _log_reverse(diffusion, model, path, 1)",
            "return log_ratio",
        ),
        Mutant(telescoping, "forward - _log_reverse", "forward + _log_reverse"),
    ],
    "ix": [
        Mutant(affine_chain, "ratio - 1.0 - np.log(ratio)", "ratio - np.log(ratio)"),
        Mutant(affine_chain, "signal2 * x0**2 - signal2", "signal2 * x0**2"),
        Mutant(affine_chain, "self.slope[t] ** 2 * spread[t]", "self.slope[t] * spread[t]"),
        Mutant(affine_chain, "-0.5 * (np.log(2.0", "0.5 * (np.log(2.0"),
        Mutant(affine_chain, "mean**2 + miss**2 *", "mean**2 + miss *"),
        Mutant(oracles, "xp.sqrt(noise2) * off_centre / v", "off_centre / v"),
    ],
    "x": [
        Mutant(bound, "schedule.beta[1:] ** 2 / spread", "schedule.beta[1:] / spread"),
        Mutant(bound, "spread = 2.0 * variance", "spread = variance"),
        Mutant(bound, "variance[1:] * schedule.alpha[1:]", "variance[1:] * schedule.alpha_bar[1:]"),
        Mutant(
            gaussian, "x0_hat = (xt - noise * output) / signal", "x0_hat = (xt - output) / signal"
        ),
        Mutant(kl, "0.5 * (from", "(from"),
    ],
    "xi": [
        # huggingface/diffusers builds β and its cumulative product in float32.
        Mutant(schedule, "cumprod(1.0 - beta, dtype=np.float64)", "cumprod(1 - beta, dtype='f4')"),
        Mutant(bound, "0.5 * (schedule.snr[:-1]", "(schedule.snr[:-1]"),
        Mutant(bound, "schedule.beta[1:] ** 2 / spread", "schedule.beta[:-1] ** 2 / spread"),
    ],
    "xii": [
        # openai/improved-diffusion, scripts/image_sample.py: truncated, not rounded.
        Mutant(pixels, "xp.rint((x.clip(-1, 1) + 1) * 127.5)", "(x.clip(-1, 1) + 1) * 127.5"),
        # labmlai/annotated_deep_learning_paper_implementations, issue 241: images stay in [0, 1].
        Mutant(pixels, "images.astype(dtype) / 127.5 - 1", "images.astype(dtype) / 255"),
        Mutant(
            decoder,
            "xp.where(x0 > _LAST_EDGE, np.inf, (centred + HALF_BIN) * inv_std)",
            "(centred + HALF_BIN) * inv_std",
        ),
        Mutant(decoder, "xp.exp(-0.5 * log_variance.astype", "xp.exp(-log_variance.astype"),
        Mutant(
            decoder,
            "near, far = xp.where(reflected, -lower, upper)",
            "near, far = xp.where(reflected, lower, upper)",
        ),
    ],
    "xiii": [
        Mutant(decoder, "math.log(2.0 * HALF_BIN)", "math.log(HALF_BIN)"),
        Mutant(decoder, "HALF_BIN = 1.0 / 255.0", "HALF_BIN = 1.0 / 256.0"),
        Mutant(decoder, "+ log_variance + math.log(2 * math.pi)", "+ math.log(2 * math.pi)"),
    ],
    "xiv": [
        # diffusers' UNet2DModel and labml's U-Net start no layer at zero.
        Mutant(layers, "bound = 0.0 if zero else (size", "bound = (size"),
        Mutant(losses, "(error * error).mean(axis", "(error * error).sum(axis"),
        Mutant(losses, "(error * error).mean(axis", "abs(error).mean(axis"),
    ],
    "xv": [
        # The Hugging Face diffusion course draws randint(0, 999): the last step is never trained.
        Mutant(rng, "drawn * np.uint64(high) >> _HALF", "drawn * np.uint64(high - 1) >> _HALF"),
        # AkiRusProd/numpy-diffusion draws randint(1, T) with t from 0: the first never is.
        Mutant(
            rng,
            "np.uint64(high) >> _HALF).astype(np.int64) + 1",
            "np.uint64(high - 1) >> _HALF).astype(np.int64) + 2",
        ),
        Mutant(timestep_sampling, "1.0 / (self.T * p[t])", "1.0 / p[t]"),
        Mutant(timestep_sampling, "1.0 / (self.T * p[t])", "np.ones(len(t))"),
        Mutant(timestep_sampling, "1.0 / (self.T * p[t])", "self.T * p[t]"),
        Mutant(timestep_sampling, "np.minimum(t, self.T)", "np.minimum(t + 1, self.T)"),
        Mutant(timestep_sampling, "(self.history[1:] ** 2)", "(self.history[1:] ** 4)"),
        Mutant(timestep_sampling, "np.sqrt((self.history", "np.positive((self.history"),
        Mutant(timestep_sampling, "self.history[time, self", "self.history[time - 1, self"),
    ],
    "xvi": [
        # labmlai/annotated_deep_learning_paper_implementations adds noise at the last step.
        Mutant(sampling, "noise(t)) if t > 1 else mean", "noise(t)) if t > 0 else mean"),
        # The same in DDIM, where η² β̃_1 = 0 forgives the step, but not a floor of the variance.
        Mutant(
            ddim,
            "if eta > 0.0 and t > 1:",
            "variance = variance + 1e-6\n            if eta > 0.0:",
        ),
    ],
    "xvii": [
        # lucidrains/denoising-diffusion-pytorch and diffusers clip β̃_1 = 0 at 1e-20 instead.
        Mutant(
            gaussian,
            "table[:2] = schedule.beta_tilde[2] if schedule.T > 1",
            "table[:2] = 1e-20 if 1",
        ),
        # diffusers before its pull request 2090: the ends of learned_range without logarithms.
        Mutant(gaussian, LOGARITHMS, NO_LOGARITHMS),
        Mutant(learned_variance, "0.5 * (v + 1)", "v"),
        Mutant(
            learned_variance,
            "fraction * upper + (1 - fraction) * lower",
            "fraction * lower + (1 - fraction) * upper",
        ),
    ],
    "xviii": [
        # lucidrains/denoising-diffusion-pytorch: λ without the factor T, T times too weak.
        Mutant(losses, "diffusion.schedule.T / (math.prod", "1.0 / (math.prod"),
        Mutant(losses, "* math.log(2.0))\n", ")\n"),
        Mutant(
            losses,
            "doutput[..., : error.shape[-1]] = _error",
            "doutput[..., : error.shape[-1]] += _error",
        ),
        Mutant(
            losses, "bound_term_backward(diffusion, per_nat * d", "bound_term_backward(diffusion, d"
        ),
    ],
    "xix": [
        # AkiRusProd/numpy-diffusion: `if t > 1` with t from 0, two steps without noise.
        Mutant(sampling, "noise(t)) if t > 1 else mean", "noise(t)) if t > 2 else mean"),
        Mutant(sampling, "noise(t)) if t > 1 else mean", "noise(t)) if t > 0 else mean"),
        Mutant(sampling, "(noise(t)) if", "(noise(0)) if"),
        Mutant(sampling, ".sqrt(variance)", ".positive(variance)"),
        Mutant(oracles, "xp.sqrt(noise2) * off_centre / v", "off_centre / v"),
        # t counted from 0 in one place and from 1 in another: the model is given another step's t.
        Mutant(sampling, "diffusion.timesteps[t])", "max(diffusion.timesteps[t] - 1, 1))"),
    ],
    "xx": [
        # w86763777/pytorch-ddpm clips x̂_0 after the mean has been made from it.
        Mutant(gaussian, CLIP_THEN_MEAN, MEAN_THEN_CLIP),
        # diffusers' DDIM, unless told otherwise, keeps the ε̂ that belongs to x̂_0 before clipping.
        Mutant(ddim, "eps_hat = diffusion.predict_eps(xt, times, x0_hat)", "eps_hat = output"),
        Mutant(ddim, "mean = signal * x0_hat + per_image", "mean = signal * x0_hat - per_image"),
        Mutant(ddim, "1.0 - eta**2 + eta**2 *", "1.0 + eta**2 *"),
        Mutant(ddim, "per_image(eta**2 * schedule.beta_tilde", "per_image(eta**2 * schedule.beta"),
    ],
    "xxi": [
        # diffusers before its pull request 3006: β of the whole chain when steps are left out.
        Mutant(
            respacing,
            "-np.expm1(np.add.reduceat(log_alpha, timesteps[:-1]))",
            "schedule.beta[timesteps[1:]]",
        ),
        Mutant(sampling, "diffusion.timesteps[t])", "t)"),
        Mutant(respacing, "(T - 1) / (steps - 1)", "(T - 2) / (steps - 1)"),
        Mutant(gaussian, "timesteps=self.timesteps[kept]", "timesteps=None"),
    ],
    "xxii": [
        Mutant(optim, "(1 - decay) * (value - average)", "decay * (value - average)"),
        Mutant(optim, "(1 - decay) * (value - average)", "(1 - decay) * value"),
        Mutant(optim, "(1 + step) / (10 + step)", "step / (10 + step)"),
    ],
    "xxiii": [
        Mutant(dropout, "x * keep * (1 / (1 - rate)), ", "x * keep, "),
        Mutant(dropout, "x * keep * (1 / (1 - rate)), ", "x * keep * (1 / rate), "),
        Mutant(masks, "words >= np.uint32", "words < np.uint32"),
        Mutant(masks, "site=site", "site=0"),
        Mutant(masks, "samples=self.samples", "samples=0 * self.samples"),
    ],
    "xxiv": [
        Mutant(layers, "(size * size * c_in) ** -0.5", "c_in**-0.5"),
        Mutant(layers, "(size * size * c_in) ** -0.5", "(size * size * c_out) ** -0.5"),
        Mutant(layers, "else c_in**-0.5", "else c_out**-0.5"),
        Mutant(parameters, "p.bound * (2 * u[0] - 1)", "p.bound * u[0]"),
        Mutant(parameters, "p.bound * (2 * u[0] - 1)", "p.bound * (4 * u[0] - 2) / 3"),
    ],
    "xxv": [
        # AkiRusProd/numpy-diffusion, layers/positional_encoding.py: the place in the batch.
        Mutant(time_embedding, "t[:, None] * omega", "xp.arange(len(t))[:, None] * omega"),
        Mutant(time_embedding, "t[:, None] * omega", "t[:, None] * 0 * omega"),
    ],
    "xxvi": [
        # labmlai/annotated_deep_learning_paper_implementations: E[x²] − E[x]² in float32.
        Mutant(group_norm, TWO_PASSES, ONE_PASS),
        Mutant(group_norm, "xc = xg - xg.mean(axis=(1, 3), keepdims=True)", "xc = xg"),
    ],
}
