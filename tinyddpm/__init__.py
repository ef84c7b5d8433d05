"""tinyddpm: denoising diffusion in NumPy and CuPy, every gradient by hand."""

__version__ = "0.1.0"

from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.training.model import TrainedModel, load

__all__ = ["GaussianDiffusion", "NoiseSchedule", "TrainedModel", "UNet", "UNetConfig", "load"]
