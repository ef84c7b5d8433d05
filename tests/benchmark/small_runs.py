"""What the tests of the benchmark share: the presets with few channels, and runs of them."""

from dataclasses import replace

from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.training.config import recipe

WIDTHS = {2: (8, 16), 3: (8, 16, 16), 4: (8, 16, 16, 16)}


def narrow(preset, **changes):
    """The preset with all its switches, on few channels."""
    config = PRESETS[preset]
    widths = {"channels": WIDTHS[len(config.channels)], "groups": 4, "heads": min(config.heads, 4)}
    return replace(config, **widths | changes)


def tiny():
    """A network of two levels, for whatever does not depend on the shape."""
    return UNetConfig(image_size=4, channels=(4, 8), groups=2, attention_at=(2,))


def small_run(network, preset="mnist", **changes):
    """The run of ``preset`` on ``network``."""
    return replace(recipe(preset, "random"), network=network, **{"batch": 4, "shard": 2} | changes)
