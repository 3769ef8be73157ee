"""A store of rows goes on where it stopped, takes nothing half-written as done, and is of its inputs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.errors import InvalidInput
from miclip.progress import Progress, Stage, StageKind
from miclip.row_store import RowStore
from tests.waiting import wait_until

STAGE = Stage(StageKind.ACTIVATIONS)
TOTAL = 10


class Rows:
    """Computes the numbers of rows, and keeps which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, start: int, stop: int) -> dict[str, Any]:
        self.asked += range(start, stop)
        rows = np.arange(start, stop, dtype=np.float32)
        return {"plain": rows[:, None] * [1, 2], "layer/with/slashes": rows[:, None, None].astype(np.float16)}


def store(root: Path, inputs: object = "x") -> RowStore:
    return RowStore(root, ["weights", inputs], TOTAL, "rows-")


def fill(target: RowStore, compute: Any, **more: Any) -> None:
    target.fill(compute, chunk=4, stage=STAGE, **more)


def check(target: RowStore) -> None:
    np.testing.assert_array_equal(target.read("plain"), np.arange(TOTAL)[:, None] * [1, 2])
    np.testing.assert_array_equal(target.read("layer/with/slashes"), np.arange(TOTAL)[:, None, None])


def test_every_row_is_computed_once_and_progress_is_told(tmp_path: Path) -> None:
    rows, seen = Rows(), list[Progress]()
    fill(store(tmp_path), rows, report=seen.append)
    fill(store(tmp_path), rows, report=seen.append)
    assert rows.asked == list(range(TOTAL))
    assert seen == [Progress(STAGE, done, TOTAL) for done in (4, 8, 10)]
    check(store(tmp_path))


def test_a_cancelled_run_keeps_what_is_done_and_the_next_goes_on(tmp_path: Path) -> None:
    rows, answers = Rows(), iter([False, True])
    fill(store(tmp_path), rows, cancelled=lambda: next(answers))
    assert store(tmp_path).done == 4
    with pytest.raises(InvalidInput, match="4 of 10"):
        store(tmp_path).read("plain")
    fill(store(tmp_path), rows)
    assert rows.asked == list(range(TOTAL))
    check(store(tmp_path))


def test_rows_of_a_run_that_is_killed_after_its_last_mark_are_computed_again(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from tests.unit.test_row_store import Rows, fill, store
from miclip import row_store
marks = []
def killed_at_the_second(path, text):
    marks.append(text)
    if len(marks) == 2:
        os.kill(os.getpid(), 9)
    written(path, text)
written, row_store.write_file = row_store.write_file, killed_at_the_second
fill(store(Path(sys.argv[1])), Rows())
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    assert store(tmp_path).done == 4
    rows = Rows()
    fill(store(tmp_path), rows)
    assert rows.asked == list(range(4, TOTAL))
    check(store(tmp_path))


@pytest.mark.parametrize("text", ["", '{"done": 1', '{"done": 10}', '{"done": "x", "arrays": []}', "[]"])
def test_a_broken_mark_counts_as_nothing_done(tmp_path: Path, text: str) -> None:
    fill(store(tmp_path), Rows())
    (store(tmp_path).directory / "done.json").write_text(text)
    assert store(tmp_path).done == 0
    fill(store(tmp_path), Rows())
    check(store(tmp_path))


def test_a_missing_array_counts_as_nothing_done(tmp_path: Path) -> None:
    fill(store(tmp_path), Rows())
    (store(tmp_path).directory / "plain.npy").unlink()
    rows = Rows()
    fill(store(tmp_path), rows)
    assert rows.asked == list(range(TOTAL))
    check(store(tmp_path))


def test_a_failure_in_the_work_leaves_what_was_done(tmp_path: Path) -> None:
    def fails_at_four(start: int, stop: int) -> dict[str, Any]:
        if start == 4:
            raise RuntimeError
        return Rows()(start, stop)

    with pytest.raises(RuntimeError):
        fill(store(tmp_path), fails_at_four)
    assert json.loads((store(tmp_path).directory / "done.json").read_text())["done"] == 4


def test_other_inputs_have_another_folder(tmp_path: Path) -> None:
    fill(store(tmp_path), Rows())
    assert store(tmp_path).directory == store(tmp_path).directory
    assert store(tmp_path, "y").directory != store(tmp_path).directory
    assert store(tmp_path, "y").done == 0


def test_a_reader_cannot_change_what_is_kept(tmp_path: Path) -> None:
    fill(store(tmp_path), Rows())
    store(tmp_path).read("plain")[:] = -1
    check(store(tmp_path))


def test_of_two_at_the_same_store_one_works_and_the_other_finds_it_done(tmp_path: Path) -> None:
    first, second, go_on = Rows(), Rows(), threading.Event()

    def slowly(start: int, stop: int) -> dict[str, Any]:
        go_on.wait(10)
        return first(start, stop)

    threads = [threading.Thread(target=fill, args=(store(tmp_path), slowly))]
    threads[0].start()
    wait_until((store(tmp_path).directory / ".lock").exists)
    threads.append(threading.Thread(target=fill, args=(store(tmp_path), second)))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(first.asked + second.asked) == list(range(TOTAL)), "no row is computed twice"
    check(store(tmp_path))


def test_who_waits_for_another_can_be_cancelled(tmp_path: Path) -> None:
    go_on, rows = threading.Event(), Rows()

    def slowly(start: int, stop: int) -> dict[str, Any]:
        go_on.wait(10)
        return Rows()(start, stop)

    worker = threading.Thread(target=fill, args=(store(tmp_path), slowly))
    worker.start()
    wait_until((store(tmp_path).directory / ".lock").exists)
    try:
        fill(store(tmp_path), rows, cancelled=lambda: True)
        assert rows.asked == []
    finally:
        go_on.set()
        worker.join()
    assert "done.json" in os.listdir(store(tmp_path).directory)
