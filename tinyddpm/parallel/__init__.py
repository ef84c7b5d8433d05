"""One batch = shards; workers are threads, or processes that share memory.

Nothing in the network couples the images of a batch (GroupNorm's statistics are per image), so a
batch is cut into shards of a fixed size, and each shard goes through the whole network, forward and
backward, on one core.

Results are committed in the order of the shards, whoever finishes first. Floating-point sums over
shards therefore do not depend on the number of workers: one, two or twenty give the same bits.
"""

from tinyddpm.parallel.processes import shared_zeros
from tinyddpm.parallel.workers import Workers, available_cores, shard_slices

__all__ = ["Workers", "available_cores", "shard_slices", "shared_zeros"]
