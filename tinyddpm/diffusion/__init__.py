"""Diffusion itself: the schedule, the forward and the reverse chain, the losses, the samplers.

Nothing here knows a network: it is a callable ``model(xt, t)`` that is handed in.
"""

from __future__ import annotations

from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.schedule import NoiseSchedule

__all__ = ["GaussianDiffusion", "NoiseSchedule", "normal_kl"]
