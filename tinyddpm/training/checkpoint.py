"""The file of one training state: written whole or not at all, read only if all of it is sound.

A checkpoint is a plain zip of uncompressed .npy members, so that ``numpy.load`` opens it too:

    manifest.npy      a JSON object as bytes: versions, step, config, names and shapes, members
    value.npy         ema.npy, adam_m.npy, adam_v.npy: flat float32, (P,)
    extra.NAME.npy    any further arrays

Zip keeps a CRC-32 of each member, which finds every flipped bit; all are checked before anything is
returned. Nothing that a hostile file says is believed: members are as long in the file as in memory
and do not overlap, so no more is read than the file holds, and a .npy header is not parsed but
compared with the one that the manifest calls for.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import tinyddpm
from tinyddpm.arrays import Array
from tinyddpm.errors import CheckpointError, StorageError
from tinyddpm.files import write_atomically
from tinyddpm.zips import check_members

FORMAT_VERSION = 1
FLAT = ("value", "ema", "adam_m", "adam_v")
DTYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "uint8": "|u1"}  # as .npy spells them

_MANIFEST, _EXTRA = "manifest", "extra."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped; its arrays are on the host.

    Attributes:
        step: optimizer steps done.
        config: the whole resolved configuration of the run; JSON and nothing else.
        data_fingerprint: identifies the training data.
        parameters: name and shape of each parameter, in the order of the flat buffers.
        seconds: time spent training so far.
        value: parameters, flat float32 (P,).
        ema: moving average of the parameters, (P,).
        adam_m: Adam's first moment, (P,).
        adam_v: Adam's second moment, (P,).
        extra: further arrays by name, of a dtype in ``DTYPES``.
    """

    step: int
    config: dict[str, Any]
    data_fingerprint: str
    parameters: list[tuple[str, tuple[int, ...]]]
    seconds: float
    value: Array
    ema: Array
    adam_m: Array
    adam_v: Array
    extra: dict[str, Array] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``; at every instant the file is the old one or the new one.

    The same state gives the same bytes. The file is read back before it takes its name.

    Raises:
        CheckpointError: the state is not worth keeping (a value that is not finite, a wrong size).
        StorageError: it could not be written, or did not read back.
    """
    try:
        _check(checkpoint)
        arrays = _named_arrays(checkpoint)
        manifest = json.dumps(_manifest(checkpoint, arrays), allow_nan=False).encode()
    except ValueError as error:
        raise CheckpointError(f"{path} is not written", cause=str(error)) from error

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _write_member(archive, _MANIFEST, np.frombuffer(manifest, np.uint8))
            for name, array in arrays.items():
                _write_member(archive, name, array)

    def verify(written: Path) -> None:
        try:
            read(written)
        except CheckpointError as error:
            raise StorageError(f"{path} did not read back as written", cause=str(error)) from error

    write_atomically(path, write, verify=verify)


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in ``path``, its arrays read-only.

    Raises:
        CheckpointError: there is no such file, it cannot be read, it is damaged, or a newer version
            wrote it.
    """
    try:
        with _open(path) as file:
            members = _read_members(file)
        checkpoint = _assemble(_read_manifest(path, members), members)
        _check(checkpoint)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # zipfile and json meet damaged bytes with a dozen types
        raise CheckpointError(
            f"{path} is damaged, or is not a tinyddpm checkpoint",
            cause=str(error) or type(error).__name__,
            remedy="an earlier checkpoint of the same run",
        ) from error
    return checkpoint


def _check(checkpoint: Checkpoint) -> None:
    """Raise a ValueError that says why ``checkpoint`` is no state of a run, if it is not."""
    if checkpoint.step < 0 or not 0 <= checkpoint.seconds < math.inf:
        raise ValueError(f"step {checkpoint.step} after {checkpoint.seconds} seconds")
    count = sum(math.prod(shape) for _, shape in checkpoint.parameters)
    for name in FLAT:
        array = getattr(checkpoint, name)
        if array.shape != (count,) or array.dtype != np.float32:
            raise ValueError(f"{name} should be float32 ({count},), is {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name, array in checkpoint.extra.items():
        if not name.isidentifier() or str(array.dtype) not in DTYPES:
            raise ValueError(f"extra array {name!r} of {array.dtype}: one of {', '.join(DTYPES)}")


def _named_arrays(checkpoint: Checkpoint) -> dict[str, Array]:
    arrays = {name: getattr(checkpoint, name) for name in FLAT}
    return arrays | {_EXTRA + name: array for name, array in checkpoint.extra.items()}


def _manifest(checkpoint: Checkpoint, arrays: dict[str, Array]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "package_version": tinyddpm.__version__,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "data_fingerprint": checkpoint.data_fingerprint,
        "config": checkpoint.config,
        "parameters": checkpoint.parameters,
        "arrays": {name: {"dtype": str(a.dtype), "shape": a.shape} for name, a in arrays.items()},
    }


def _assemble(manifest: dict[str, Any], members: dict[str, bytes]) -> Checkpoint:
    """Return the checkpoint of a manifest and the members that it lists."""
    step, config, fingerprint = manifest["step"], manifest["config"], manifest["data_fingerprint"]
    if type(step) is not int or not isinstance(config, dict) or not isinstance(fingerprint, str):
        raise ValueError("the manifest lacks a step, a config or a data fingerprint")
    arrays = {
        name: _array(members[name], entry["dtype"], _shape(entry["shape"]))
        for name, entry in manifest["arrays"].items()
    }
    checkpoint = Checkpoint(
        step=step,
        config=config,
        data_fingerprint=fingerprint,
        parameters=[(str(name), _shape(sizes)) for name, sizes in manifest["parameters"]],
        seconds=float(manifest["seconds"]),
        **{name: arrays.pop(name) for name in FLAT},
        extra={name.removeprefix(_EXTRA): array for name, array in arrays.items()},
    )
    if set(_named_arrays(checkpoint)) != set(manifest["arrays"]):
        raise ValueError(f"the manifest lists unknown arrays: {sorted(manifest['arrays'])}")
    return checkpoint


def _shape(sizes: list[int]) -> tuple[int, ...]:
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError(f"{sizes} is not a shape")
    return tuple(sizes)


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header, NumPy's version 1.0, of an array; it fills a multiple of 64 bytes."""
    text = f"{{'descr': '{DTYPES[dtype]}', 'fortran_order': False, 'shape': {shape}, }}"
    length = len(text) + 1 + -(len(text) + 11) % 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + f"{text:<{length - 1}}\n".encode()


def _write_member(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that bytes follow from the state alone
    info.create_system = 3
    little_endian = np.ascontiguousarray(array, DTYPES[str(array.dtype)])
    with archive.open(info, "w", force_zip64=True) as member:
        member.write(_npy_header(str(array.dtype), array.shape))
        member.write(little_endian.reshape(-1).view(np.uint8).data)


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint file {path}")
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read",
            cause=error.strerror or str(error),
            remedy="an earlier checkpoint of the same run",
        ) from error


def _read_members(file: BinaryIO) -> dict[str, bytes]:
    """Return the bytes of every member, each of them checked by its CRC."""
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        check_members(infos, os.fstat(file.fileno()).st_size)
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"member {info.orig_filename} is compressed")
        return {info.orig_filename.removesuffix(".npy"): archive.read(info) for info in infos}


def _read_manifest(path: Path, members: dict[str, bytes]) -> dict[str, Any]:
    """Return the manifest and take it out of ``members``, which must be those that it lists."""
    if _MANIFEST not in members:
        raise ValueError("it has no manifest")
    data = members.pop(_MANIFEST)
    size = len(data) - len(_npy_header("uint8", (len(data),)))
    manifest: dict[str, Any] = json.loads(_array(data, "uint8", (size,)).tobytes())
    if manifest["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer tinyddpm",
            cause=f"format {manifest['format_version']}; this version reads up to {FORMAT_VERSION}",
            remedy="upgrade tinyddpm",
        )
    if set(members) != set(manifest["arrays"]):
        raise ValueError(f"members {sorted(members)}, manifest lists {sorted(manifest['arrays'])}")
    return manifest


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return the array in a member's ``data``, which must be just what dtype and shape call for."""
    header = _npy_header(dtype, shape)
    expected = len(header) + math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if not data.startswith(header) or len(data) != expected:
        raise ValueError(f"a member that should be {dtype} {shape} is not: {data[:128]!r}")
    return np.frombuffer(data, DTYPES[dtype], offset=len(header)).reshape(shape)
