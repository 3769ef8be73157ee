"""Tables of images: Parquet files, and datasets that Hugging Face's ``save_to_disk`` wrote (Arrow files).

Needs pyarrow, the extra ``data``. Of a Parquet file a batch of rows is in memory at a time; Arrow files are mapped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, cast

from miclip.probe_sets.columns import Columns, find_columns
from miclip.probe_sets.source import Entry, Source

_BATCH = 64


class TableSource(Source):
    """The images of table files, file by file, in the order of the rows; ``{file}#{row}`` is an image's name.

    Args:
        files: In order.
        name: Short name of the whole.
        root: Folder that the names of the files are relative to.
    """

    def __init__(self, files: Sequence[Path], name: str, root: Path) -> None:
        self._files, self._root, self.name, self.broken = tuple(files), root, name, []
        self._one_at_a_time = Lock()  # what is open moves with every read

    def _list(self) -> list[Entry]:
        import pyarrow as pa

        found = []
        for index, file in enumerate(self._files):
            name = str(file.relative_to(self._root))
            try:
                rows, columns, labels = self._labels(file, name)
            except (OSError, pa.ArrowException):
                self.broken.append(name)
                continue
            texts = [columns.text_of(label) for label in labels] if columns.label else [None] * rows
            found += [Entry(f"{name}#{row}", (index, row), text) for row, text in enumerate(texts)]
        return found

    def read(self, place: Hashable) -> bytes:
        """Return the encoded image of a row, empty where the row has none; raises OSError for a broken file."""
        import pyarrow as pa

        index, row = cast("tuple[int, int]", place)
        try:
            with self._one_at_a_time:
                value = self._value(self._files[index], row)
        except pa.ArrowException as error:
            raise OSError("The table is broken.") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        return data if isinstance(data, bytes) else b""

    @abstractmethod
    def _labels(self, file: Path, name: str) -> tuple[int, Columns, list[Any]]:
        """Number of rows of a file, its columns, and the values of its label column, none without one."""

    @abstractmethod
    def _value(self, file: Path, row: int) -> Any:
        """The value of the image column in a row."""


class ParquetSource(TableSource):
    """The images of Parquet files; rows that are read in order are read once."""

    _cursor: _Cursor | None = None

    def _labels(self, file: Path, name: str) -> tuple[int, Columns, list[Any]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(file) as opened:
            columns = find_columns(opened.schema_arrow, name)
            names = [columns.label] if columns.label else []
            labels = opened.read(columns=names).column(columns.label).to_pylist() if names else []
            return opened.metadata.num_rows, columns, labels

    def _value(self, file: Path, row: int) -> Any:
        if self._cursor is None or self._cursor.file != file:
            self._cursor = _Cursor(file)
        return self._cursor.value(row)


class _Cursor:
    """Reads rows of one Parquet file, batch by batch; goes back to the start of a row group where it must."""

    def __init__(self, file: Path) -> None:
        import pyarrow.parquet as pq

        self.file = file
        self._opened = pq.ParquetFile(file)
        columns = find_columns(self._opened.schema_arrow, file.name)
        self._column, self._leaf = columns.image, f"{columns.image}.bytes" if columns.record else columns.image
        self._group, self._first, self._rows = -1, 0, 0
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None

    @cached_property
    def _starts(self) -> list[int]:
        """First row of every row group, and the end of the last."""
        metadata, starts = self._opened.metadata, [0]
        for group in range(metadata.num_row_groups):
            starts.append(starts[-1] + metadata.row_group(group).num_rows)
        return starts

    def value(self, row: int) -> Any:
        if row < self._first or row >= self._starts[self._group + 1]:
            self._enter(row)
        while row >= self._first + self._rows:
            self._first += self._rows
            self._batch = next(self._batches)
            self._rows = self._batch.num_rows
        return self._batch.column(self._column)[row - self._first].as_py()

    def _enter(self, row: int) -> None:
        self._group = next(group for group, end in enumerate(self._starts[1:]) if row < end)
        self._first, self._rows = self._starts[self._group], 0
        self._batches = self._opened.iter_batches(_BATCH, row_groups=[self._group], columns=[self._leaf])


class ArrowSource(TableSource):
    """The images of Arrow stream files, memory-mapped."""

    _opened: tuple[Path, Columns, Any] | None = None

    def _labels(self, file: Path, name: str) -> tuple[int, Columns, list[Any]]:
        table = _map(file)
        columns = find_columns(table.schema, name)
        return table.num_rows, columns, table.column(columns.label).to_pylist() if columns.label else []

    def _value(self, file: Path, row: int) -> Any:
        if self._opened is None or self._opened[0] != file:
            table = _map(file)
            self._opened = file, find_columns(table.schema, file.name), table
        _, columns, table = self._opened
        return table.column(columns.image)[row].as_py()


def _map(file: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file), "r")).read_all()
