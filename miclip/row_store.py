"""Rows of arrays on disk that a long pass computes, so that a run that stops goes on where it was.

A store's folder is named by the hash of all that determines its rows: other inputs, other folder. Rows are in memory
maps, so their size is the disk's affair. A row counts as done once it is on the disk and a mark that is replaced
atomically says so; what was written after the last mark is computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from miclip.errors import InvalidInput
from miclip.files import write_file
from miclip.progress import Progress, Report, Stage, silent

_MARK: Final = "done.json"
_LOCK: Final = ".lock"
_ASK_EVERY_S: Final = 0.2


def key_of(inputs: Any) -> str:
    """Return the name of what follows from ``inputs``, JSON values: 32 hex digits of their SHA-256."""
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


class RowStore:
    """Arrays that have one row for each of ``total`` items, filled from the first to the last.

    Args:
        root: Directory of all stores.
        inputs: All that determines the rows, as JSON values.
        total: Rows in all.
        prefix: Of the folder's name, for stores of different kinds in one directory.

    Attributes:
        directory: The store's folder; made when first filled.
    """

    def __init__(self, root: Path, inputs: Any, total: int, prefix: str = "") -> None:
        self.directory = root / f"{prefix}{key_of(inputs)}"
        self._total = total

    @property
    def done(self) -> int:
        """Rows that are done, 0 where the mark or an array that it names is missing or broken."""
        try:
            mark = json.loads((self.directory / _MARK).read_text())
            done, names = int(mark["done"]), list(mark["arrays"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return done if all(self._path(name).is_file() for name in names) else 0

    def fill(
        self,
        compute: Callable[[int, int], Mapping[str, NDArray[Any]]],
        *,
        chunk: int,
        stage: Stage,
        report: Report = silent,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute every row that is not done; of several processes at the same store one works, the others wait.

        Args:
            compute: Called with the first row and the one after the last; returns those rows of every array.
            chunk: Rows at a time, after each of which they count as done.
            stage: What ``report`` is told is at work.
            report: Told of progress, in rows.
            cancelled: Asked before every chunk; once true, the call returns and what is done stays.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._alone(cancelled) as alone:
            arrays: dict[str, np.memmap[Any, Any]] = {}
            for start in range(self.done, self._total, chunk) if alone else ():
                if cancelled():
                    return
                stop = min(start + chunk, self._total)
                rows = compute(start, stop)
                arrays = arrays or {name: self._array(name, values, fresh=not start) for name, values in rows.items()}
                for name, values in rows.items():
                    arrays[name][start:stop] = values
                    arrays[name].flush()
                write_file(self.directory / _MARK, json.dumps({"done": stop, "arrays": sorted(rows)}))
                report(Progress(stage, stop, self._total))

    def read(self, name: str) -> NDArray[Any]:
        """Return all rows of an array, memory-mapped; changes to it stay in memory.

        Raises:
            InvalidInput: not every row is done.
        """
        if (done := self.done) < self._total:
            raise InvalidInput(f"The activation store holds {done} of {self._total} images; fill it first.")
        return np.load(self._path(name), mmap_mode="c", allow_pickle=False)

    def _array(self, name: str, rows: NDArray[Any], *, fresh: bool) -> np.memmap[Any, Any]:
        if not fresh:
            return np.lib.format.open_memmap(self._path(name), mode="r+")
        shape = (self._total, *rows.shape[1:])
        return np.lib.format.open_memmap(self._path(name), mode="w+", dtype=rows.dtype, shape=shape)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace('/', '~')}.npy"  # names of dictionaries have slashes

    @contextmanager
    def _alone(self, cancelled: Callable[[], bool]) -> Iterator[bool]:
        """Wait for any other process that fills the store; False when ``cancelled`` meanwhile."""
        with (self.directory / _LOCK).open("w") as lock:
            while not _locked(lock.fileno()):
                if cancelled():
                    yield False
                    return
                time.sleep(_ASK_EVERY_S)
            yield True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
