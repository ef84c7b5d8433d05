"""As much of CuPy as the package uses, on NumPy and the simulator: stricter than the real one.

It refuses what CuPy or a capturing stream refuses: host arrays among device arrays, copies from
the host, waiting for a value, and cuBLAS while a graph is captured. And it captures as CUDA does:
what is launched between ``begin_capture`` and ``end_capture`` is written down, with its arguments
as they are then, and is carried out when the graph is launched; results computed in a capture are
NaN until then. Memory that a capture takes from a pool of its own holds garbage whenever the graph
begins: on a card other launches of the graph work in it. Memory is without end, but a test may let
``Memory.room`` run out.
"""

import operator
import types

import numpy as np
from fake_cuda import (
    DEFAULT_POOL,
    Capture,
    CompileException,
    Stream,
    cuda,
    do,
    garbage,
    refuse_in_capture,
    spoil,
)

CONVERSIONS = "implicit conversion to a NumPy array is not allowed"


class _Memory:
    def __init__(self, array):
        self.ptr = array.ctypes.data


class ndarray:
    """Device memory: a NumPy array that nobody else may look into."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, host):
        self.memory = host

    shape = property(lambda self: self.memory.shape)
    dtype = property(lambda self: self.memory.dtype)
    ndim = property(lambda self: self.memory.ndim)
    size = property(lambda self: self.memory.size)
    nbytes = property(lambda self: self.memory.nbytes)
    strides = property(lambda self: self.memory.strides)
    flags = property(lambda self: self.memory.flags)
    data = property(lambda self: _Memory(self.memory))
    T = property(lambda self: ndarray(self.memory.T))
    real = property(lambda self: _apply(np.real, self))

    def __len__(self):
        return len(self.memory)

    def __array__(self, *_, **__):
        raise TypeError(CONVERSIONS)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __float__(self):
        refuse_in_capture("waiting for a value")
        return float(self.memory)

    def __bool__(self):
        refuse_in_capture("waiting for a value")
        return bool(self.memory)

    def __getitem__(self, key):
        return _apply(lambda a, k: a[k], self, key)

    def __setitem__(self, key, value):
        key, value = _unwrapped(key), _unwrapped(value)
        do(lambda: self.memory.__setitem__(key, value))

    def fill(self, value):
        do(lambda: self.memory.fill(value))

    def get(self, stream, out, blocking):
        assert stream is not None
        assert not blocking
        out[...] = _asnumpy(self)

    def set(self, host):
        refuse_in_capture("a copy from the host")
        assert (host.dtype, host.shape) == (self.dtype, self.shape)
        Capture.uploads += 1
        self.memory[...] = host

    def astype(self, dtype, *, copy=True):
        return _apply(lambda a: a.astype(dtype, copy=copy), self)


def _method(name):
    return lambda self, *args, **options: _apply(
        lambda a, *rest: getattr(a, name)(*rest, **options), self, *args
    )


def _operator(function, *, swapped=False):
    def method(self, other):
        return _apply(function, other, self) if swapped else _apply(function, self, other)

    return method


def _in_place(function):
    def method(self, other):
        _accept(other)
        other = _unwrapped(other)
        function(np.zeros_like(self.memory), np.zeros_like(other))  # refuses what does not fit
        do(lambda: function(self.memory, other))
        return self

    return method


_SHAPES = ("reshape", "transpose", "swapaxes", "view", "repeat")
for _name in (*_SHAPES, "sum", "mean", "copy", "clip", "max", "min", "any"):
    setattr(ndarray, _name, _method(_name))
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(ndarray, f"__r{_name}__", _operator(getattr(operator, _name), swapped=True))
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, _name)))
ndarray.__neg__ = lambda self: _apply(operator.neg, self)


def _matmul(self, other):
    refuse_in_capture("cuBLAS")
    return _apply(operator.matmul, self, other)


ndarray.__matmul__ = _matmul


def _accept(value):
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def _unwrapped(value):
    if isinstance(value, ndarray):
        return value.memory
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrapped, value))
    _accept(value)
    return value


def _apply(function, *args, **options):
    """The result of a function of device arrays: a view as it is, all else computed in its turn."""
    hosts = [_unwrapped(value) for value in args]
    with np.errstate(all="ignore"):
        result = np.asarray(function(*hosts, **options))
    if hosts and isinstance(hosts[0], np.ndarray) and np.may_share_memory(result, hosts[0]):
        return ndarray(result)
    if Capture.nodes is not None:
        result = garbage(result.shape, result.dtype)
        Capture.nodes.append(lambda: np.copyto(result, function(*hosts, **options)))
    return ndarray(result)


def make_module(simulator):
    """Return a module that may stand for ``cupy`` in ``sys.modules``.

    ``simulator`` carries out the kernels (``SimRuntime``).
    """
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.ndarray = ndarray
    cupy.__getattr__ = _numpy_function
    cupy.asarray, cupy.asnumpy = _asarray, _asnumpy
    cupy.array = _asarray
    cupy.empty = lambda shape, dtype=float: _empty(simulator, shape, dtype)
    for name in ("zeros", "ones", "arange", "full"):
        setattr(cupy, name, _creation(getattr(np, name)))
    cupy.empty_like = lambda a: ndarray(garbage(a.shape, a.dtype))
    cupy.RawModule = lambda code: _RawModule(simulator, code)
    cupy.cuda = cuda()
    cupy.get_default_memory_pool = lambda: DEFAULT_POOL
    cupy.uploads = lambda: Capture.uploads
    Stream.current.clear()
    return cupy


def _empty(simulator, shape, dtype):
    array = simulator.empty(shape, dtype)
    (Capture.pool or DEFAULT_POOL).malloc(array.nbytes)
    if Capture.nodes is not None and Capture.pool:
        Capture.nodes.insert(0, lambda: spoil(array))
    if Stream.now().late:
        Stream.now().own.append(array.base)
    return ndarray(array)


def _creation(function):
    def create(*args, **options):
        return _apply(lambda *_: function(*args, **options))

    return create


def _numpy_function(name):
    if name.startswith("__"):
        raise AttributeError(name)
    function = getattr(np, name)
    if name == "result_type":
        return lambda *args: function(*(getattr(a, "dtype", a) for a in args))
    return lambda *args, **options: _apply(function, *args, **options)


def _asnumpy(array):
    refuse_in_capture("a copy to the host")
    return array.memory.copy()


def _asarray(value, dtype=None):
    if isinstance(value, ndarray):
        return value if dtype in {None, value.dtype} else value.astype(dtype)
    refuse_in_capture("a copy from the host")
    Capture.uploads += 1
    return ndarray(np.array(value, dtype))


class _RawModule:
    def __init__(self, simulator, code):
        assert code.isascii(), "CuPy writes it to a file in the encoding of the locale"
        self.simulator, self.code = simulator, code

    def compile(self):
        if "#error" in self.code:
            raise CompileException(self.code)

    def get_function(self, name):
        lines = (line.split(" ", 2) for line in self.code.splitlines())
        defines = {words[1]: words[2] for words in lines if words[0] == "#define" and words[2:]}
        function = self.simulator.function_of(self.code, name, defines)

        def launch(grid, block, args, *, shared_mem=0):
            def kernel(exact):
                self.simulator.run(function, grid, block, exact, shared_mem)

            Stream.now().launch(kernel, [_kernel_argument(value) for value in args])

        return launch


def _kernel_argument(value):
    if isinstance(value, np.uint64) and value == 0:
        return None  # a null pointer, or a number that is 0 all the same
    return value.memory if isinstance(value, ndarray) else value
