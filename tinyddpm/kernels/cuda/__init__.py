"""CUDA twins of the hot ops: header-free CUDA C in the ``.cu`` files, and what launches it.

The same sources and the same launching code run on a GPU (``cupy_runtime``) and, in the tests, on a
simulated one.
"""
