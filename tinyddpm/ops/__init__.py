"""The mathematics: every op is a pure function and its backward, one concept a file.

An op ``f`` returns its result and, if its backward needs anything, a NamedTuple of that;
``f_backward`` stands right below it and returns the gradients of f's inputs in their order. An
input called ``residual`` is only added to f's result: its gradient is dy, and is not returned.

Ops are generic over the dtype (float32, float64, and complex128 for the certificates of
``tinyddpm.gradcheck``) and run on NumPy and CuPy arrays alike. They are written for clarity; the
fast twins live in ``tinyddpm.kernels``.
"""
