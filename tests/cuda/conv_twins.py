"""A twin beside its reference, on inputs whose results are known to the last bit."""

import dataclasses

import numpy as np

from tinyddpm.kernels.cuda.conv2d import Convolutions
from tinyddpm.kernels.cuda.linear import Linears
from tinyddpm.ops import conv2d, linear, upsample_conv2d


def integers(seed, *shape):
    """So small that products and sums are exact in float32, and nothing is lost by rounding."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def placed(runtime, array):
    """A copy among the arrays of the device, so that NaN is read next to it."""
    copy = runtime.empty(array.shape, array.dtype)
    runtime.upload(array, copy)
    return copy


@dataclasses.dataclass
class Twin:
    """An op on the device and its reference: two pairs of forward and backward."""

    runtime: object
    ours: tuple
    reference: tuple

    def results(self, shapes, values, **options):
        """y and the gradients, ours and the reference's, in pairs."""
        inputs = [values(seed, *shape) for seed, shape in enumerate(shapes)]
        exact, saved = self.reference[0](*(x.astype(float) for x in inputs), **options)
        dy = values(9, *exact.shape)
        expected = [exact, *self.reference[1](dy.astype(float), saved)]
        y, saved = self.ours[0](*(placed(self.runtime, x) for x in inputs), **options)
        results = [y, *self.ours[1](placed(self.runtime, dy), saved)]
        copies = [self.runtime.download(result)() for result in results]
        return list(zip(copies, expected, strict=True))


def convolution(runtime, precision):
    ours = Convolutions(runtime, precision)

    def forward(x, weight, bias, **options):
        return ours.forward(x, ours.prepare(weight), bias, **options)

    return Twin(runtime, (forward, ours.backward), (conv2d.conv2d, conv2d.conv2d_backward))


def onto(runtime, precision):
    """A convolution with a bias for each image and a residual."""
    twin = convolution(runtime, precision)

    def with_residual(forward, backward):
        return (
            lambda *inputs, **options: forward(*inputs[:3], residual=inputs[3], **options),
            lambda dy, saved: (*backward(dy, saved), dy),
        )

    return Twin(runtime, with_residual(*twin.ours), with_residual(*twin.reference))


def doubling(runtime, precision):
    ours = Convolutions(runtime, precision)

    def forward(x, weight, bias):
        return ours.upsample_forward(x, ours.prepare(weight), bias)

    reference = upsample_conv2d.upsample_conv2d, upsample_conv2d.upsample_conv2d_backward
    return Twin(runtime, (forward, ours.upsample_backward), reference)


def dense(runtime, precision):
    """A dense layer, with or without a residual."""
    ours = Linears(runtime, precision)

    def forward(x, weight, bias, residual=None):
        return ours.forward(x, ours.prepare(weight), bias, residual=residual)

    def reference(x, weight, bias, residual=None):
        return linear.linear(x, weight, bias, residual=residual)

    return Twin(runtime, (forward, ours.backward), (reference, linear.linear_backward))
