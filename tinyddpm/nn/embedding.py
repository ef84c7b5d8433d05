"""What the network is told besides the image: the time, and the class if there are classes.

    emb = silu(linear(silu(linear(time_embedding(t)))) + label[c])

In the published code the last SiLU stands in each residual block. It gives the same for all, so it
is done once, here. The row of a class is added where improved-diffusion adds it. There is one row
more than there are classes, for the null label, which stands for no class (Ho & Salimans 2022,
arXiv 2207.12598).
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.layers import Builder, Linear
from tinyddpm.nn.parameters import Parameter
from tinyddpm.ops.embedding import EmbeddingSaved, embedding, embedding_backward
from tinyddpm.ops.time_embedding import time_embedding


def network_time(t: IntArray) -> IntArray:
    """Return the time that published networks are fed, which begins at 0, for the paper's ``t``,
    which begins at 1.

    Training and sampling both call it.
    """
    return t - 1


class EmbeddingMlpSaved(NamedTuple):
    """What the two linear layers, the label's row and the two SiLUs keep."""

    hidden: Any
    hidden_act: Any
    out: Any
    label: EmbeddingSaved | None
    out_act: Any


@final
class EmbeddingMlp:
    """The embedding that all residual blocks share."""

    def __init__(self, build: Builder, config: UNetConfig) -> None:
        self.kernels, self.config = build.kernels, config
        self.dim, width = config.channels[0], config.embedding_width
        self.hidden = Linear(build, "time.hidden", self.dim, width)
        self.out = Linear(build, "time.out", width, width)
        self.label: Parameter | None = None
        if config.classes:
            # The variance of PyTorch's embeddings, 1, as a uniform distribution.
            table = Parameter("label.weight", (config.classes + 1, width), bound=3**0.5)
            self.label = build.parameters.add(table)

    def forward(
        self, t: IntArray | Array, labels: IntArray | None, like: Array
    ) -> tuple[Array, EmbeddingMlpSaved]:
        """Embed times ``t`` (N,), as published networks count them, and ``labels`` (N,): (N, 4·C₀).

        Without labels a network with classes takes the null label for all images. The result has
        the dtype and the device of ``like``.
        """
        times = xp_of(like).asarray(t, dtype=like.real.dtype) * self.config.time_scale
        order, shift = self.config.embedding_order, self.config.embedding_shift
        h, _ = time_embedding(times, dim=self.dim, order=order, shift=shift)
        h, hidden = self.hidden.forward(h)
        h, hidden_act = self.kernels.silu(h)
        h, out = self.out.forward(h)
        label = None
        if self.label:
            null = self.config.classes
            labels = xp_of(like).full(len(t), null) if labels is None else labels
            row, label = embedding(self.label.value, labels)
            h = h + row
        h, out_act = self.kernels.silu(h)
        return h, EmbeddingMlpSaved(hidden, hidden_act, out, label, out_act)

    def backward(self, demb: Array, saved: EmbeddingMlpSaved) -> None:
        """Add to the gradients; time and label are data and get none."""
        dh = self.kernels.silu_backward(demb, saved.out_act)
        if self.label and saved.label:
            self.label.grad += embedding_backward(dh, saved.label)
        dh = self.out.backward(dh, saved.out)
        dh = self.kernels.silu_backward(dh, saved.hidden_act)
        self.hidden.backward(dh, saved.hidden)
