"""safetensors files, written with NumPy and read as memory maps."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file

from miclip.atlas.manifest import FileEntry
from miclip.errors import BadArtefact

Array = NDArray[Any]
Spec = Mapping[str, tuple[DTypeLike, tuple[int, ...]]]
"""Tensor name → dtype and shape."""
_NONE: Spec = {}

_DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}
_MAX_HEADER = 2**20


def conform(tensors: Mapping[str, Array], spec: Spec, where: str, optional: Spec = _NONE) -> dict[str, Array]:
    """Return ``tensors`` contiguous and in the dtypes of ``spec``, and of ``optional`` where they are there.

    Raises:
        BadArtefact: a tensor is missing, unknown, of another shape, or not finite in its dtype.
    """
    wanted = _present(tensors.keys(), spec, optional)
    _check_names(tensors.keys(), wanted, where)
    return {name: _cast(tensors[name], *wanted[name], f"{where}: {name}") for name in wanted}


def _present(names: Iterable[str], spec: Spec, optional: Spec) -> Spec:
    there = set(names)
    return {**spec, **{name: form for name, form in optional.items() if name in there}}


def _cast(value: Array, dtype: DTypeLike, shape: tuple[int, ...], where: str) -> Array:
    array = np.asarray(value)
    if shape == () and array.size == 1:
        array = array.reshape(())
    if array.shape != shape:
        raise BadArtefact(f"{where} has shape {array.shape}, not {shape}.")
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=dtype).reshape(shape)
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        raise BadArtefact(f"{where} holds values that are not finite in {cast.dtype}.")
    return cast


def _check_names(names: Iterable[str], spec: Spec, where: str) -> None:
    present = set(names)
    for problem, odd in (("lacks", set(spec) - present), ("has unknown", present - set(spec))):
        if odd:
            raise BadArtefact(f"{where} {problem} tensors {', '.join(sorted(odd))}.")


def save(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write ``tensors`` as safetensors, without metadata, so that equal content is equal bytes."""
    save_file(dict(tensors), path)


class TensorFile:
    """A verified safetensors file; its tensors are views into one read-only memory map.

    Args:
        path: The file.
        entry: Its checksum and size.
        spec: Dtype and shape of every tensor it must hold.
        optional: Dtype and shape of tensors that it may hold.

    Raises:
        BadArtefact: the file is missing, truncated, changed, or holds other tensors.
    """

    def __init__(self, path: Path, entry: FileEntry, spec: Spec, optional: Spec = _NONE) -> None:
        self._map = map_verified(path, entry)
        self._spec, self._optional = spec, optional
        self._offsets = self._read_header(path.name)

    def __getitem__(self, name: str) -> Array:
        dtype, shape = self._spec[name]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, np.dtype(dtype), count, self._offsets[name]).reshape(shape)

    def get(self, name: str) -> Array | None:
        """Return an optional tensor, None where the file does not hold it."""
        return self[name] if name in self._spec else None

    def _read_header(self, where: str) -> dict[str, int]:
        size = int.from_bytes(self._map[:8], "little")
        if not 2 <= size <= min(_MAX_HEADER, len(self._map) - 8):
            raise BadArtefact(f"{where} is not a safetensors file.")
        try:
            header = json.loads(self._map[8 : 8 + size])
            header.pop("__metadata__", None)
            self._spec = _present(header, self._spec, self._optional)
            _check_names(header, self._spec, where)
            return {name: self._offset(header[name], name, 8 + size, where) for name in self._spec}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadArtefact(f"{where} is not a safetensors file.") from error

    def _offset(self, entry: dict[str, Any], name: str, base: int, where: str) -> int:
        dtype, shape = self._spec[name]
        begin, end = entry["data_offsets"]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        found = (_DTYPES.get(str(entry["dtype"])), tuple(entry["shape"]), end - begin)
        inside = isinstance(begin, int) and 0 <= begin <= end <= len(self._map) - base
        if found != (np.dtype(dtype), shape, size) or not inside:
            raise BadArtefact(f"{where}: {name} is {entry['dtype']} {entry['shape']}, not {np.dtype(dtype)} {shape}.")
        return base + begin


def map_verified(path: Path, entry: FileEntry) -> mmap.mmap:
    """Map a file read-only and check size and checksum of that same mapping.

    Raises:
        BadArtefact: missing, truncated or changed.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise BadArtefact(f"{path.name} of atlas {path.parent.name[:12]} is missing or empty.") from error
    if len(mapped) != entry.bytes:
        raise BadArtefact(
            f"{path.name} of atlas {path.parent.name[:12]} has {len(mapped)} bytes instead of {entry.bytes}: "
            "it is truncated or another file."
        )
    if hashlib.sha256(mapped).hexdigest() != entry.sha256:
        raise BadArtefact(
            f"{path.name} of atlas {path.parent.name[:12]} does not match its checksum: "
            "it is damaged or belongs to another atlas or layer."
        )
    return mapped
