"""Every build of every ``.cu`` file: what the simulator runs, and what NVRTC must accept.

``BUILDS[file]`` lists the constants that the launching code defines. The simulator refuses a build
that is not listed, so that whatever was shown to be right is also shown to compile.
"""

import numpy as np

from tinyddpm.kernels.cuda.attention import attention_defines
from tinyddpm.kernels.cuda.batch import batch_defines
from tinyddpm.kernels.cuda.denoise import denoise_defines
from tinyddpm.kernels.cuda.dropout import DROPOUT_DEFINES
from tinyddpm.kernels.cuda.gradients import GATHER_DEFINES
from tinyddpm.kernels.cuda.group_norm import backward_defines, group_norm_defines
from tinyddpm.kernels.cuda.loss import LossTable
from tinyddpm.kernels.cuda.operands import FORMATS, operands_defines
from tinyddpm.kernels.cuda.products import TILES, conv2d_defines
from tinyddpm.kernels.cuda.second_moment import second_moment_defines
from tinyddpm.kernels.cuda.silu import silu_defines
from tinyddpm.kernels.cuda.update import UPDATE_DEFINES

BUILDS = {
    "batch.cu": [
        batch_defines(predict, flips=flips)
        for predict in ("eps", "x0", "v", "score")
        for flips in (False, True)
    ],
    "denoise.cu": [
        denoise_defines(outputs, learned=learned)
        for outputs, learned in ((1, False), (2, False), (2, True))
    ],
    "gradients.cu": [GATHER_DEFINES],
    "loss.cu": [
        LossTable(np.empty(0), objective, outputs, score=score, per_nat=0.0).defines
        for objective, outputs in (("simple", 1), ("hybrid", 2), ("vlb", 1), ("vlb", 2))
        for score in (False, True)
    ],
    "second_moment.cu": [second_moment_defines(last=10)],
    "update.cu": [UPDATE_DEFINES],
}
BUILDS["dropout.cu"] = list(DROPOUT_DEFINES.values())
# x and y of a norm, and x, dy and dx: of any norm, and of one whose x is a convolution's alone.
BUILDS["group_norm.cu"] = [
    group_norm_defines(vector, silu=silu, x="f4", y=y)
    for vector in (1, 4)
    for silu in (False, True)
    for y in ("f4", "u2", "u4")
] + [group_norm_defines(4, silu=True, x="u2", y="u2")]
BUILDS["group_norm_backward.cu"] = [
    backward_defines(vector, silu=silu, sums=False, x="f4", dy=dy, dx="f4")
    for vector in (1, 4)
    for silu, dy in ((False, "f4"), (True, "f4"), (True, "u2"))
] + [
    backward_defines(vector, silu=True, sums=True, x=x, dy=dy, dx=dx)
    for vector, x, dy, dx in (
        (1, "f4", "f4", "f4"),
        (4, "f4", "f4", "f4"),
        (4, "f4", "f4", "u4"),
        (4, "u2", "f4", "u2"),
        (4, "u2", "u2", "u2"),
    )
]
BUILDS["silu.cu"] = [silu_defines(result) for result in ("f4", "u2", "u4")]
BUILDS["attention.cu"] = [
    attention_defines(width, precision)
    for width in (8, 32, 64, 256)
    for precision in ("fp32", "tf32")
]
BUILDS["conv2d.cu"] = [
    conv2d_defines(precision, tile, result)
    for precision, result in (("tf32", "f4"), ("bf16", "f4"), ("bf16", "u2"))
    for tile in TILES
]
BUILDS["conv2d_fp32.cu"] = [{}]
BUILDS["operands.cu"] = [operands_defines(precision) for precision in FORMATS]
BUILDS["partial_sums.cu"] = [{}]
