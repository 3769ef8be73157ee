"""A file or folder is replaced whole or not at all, also when two processes write it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from miclip.files import PRIVATE, PUBLIC, publish_folder, replacing, temporary_folder, write_file

_WRITER = """
import sys
from pathlib import Path
from miclip.files import write_file
for _ in range(200):
    write_file(Path(sys.argv[1]), sys.argv[2] * 50_000)
"""


@pytest.mark.parametrize("content", ["Grüße\r\n", b"\x00\xff"])
def test_a_new_file_holds_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    write_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [PRIVATE, PUBLIC])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    before = os.umask(umask)
    try:
        write_file(path, "new", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_no_one_else_can_read_a_file_while_it_is_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "key", mode=PUBLIC) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == PRIVATE


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_process_that_is_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "old")
    program = (
        "import os, sys; from pathlib import Path; from miclip.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of the n'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], check=False).returncode == -9
    assert (tmp_path / "file").read_text() == "old"


def test_a_file_without_a_folder_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "file", "text")
    assert os.listdir(tmp_path) == []


def test_processes_that_write_the_same_path_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "a" * 50_000)
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        assert text in ("a" * 50_000, "b" * 50_000), f"{len(text)} characters, of {set(text)}"
    assert [writer.returncode for writer in writers] == [0, 0]
    assert os.listdir(tmp_path) == ["file"]


def test_threads_of_one_process_may_write_the_same_path(tmp_path: Path) -> None:
    path, errors = tmp_path / "file", []

    def write(letter: str) -> None:
        try:
            for _ in range(100):
                write_file(path, letter * 10_000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert path.read_text() in {letter * 10_000 for letter in "abcd"}
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_whole_under_its_name(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "atlas") as folder:
        (folder / "manifest").write_text("whole")
        assert not (tmp_path / "atlas").exists()
        publish_folder(folder, tmp_path / "atlas")
    assert (tmp_path / "atlas" / "manifest").read_text() == "whole"
    assert os.listdir(tmp_path) == ["atlas"]


def test_a_folder_that_was_not_published_goes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), temporary_folder(tmp_path / "atlas") as folder:
        (folder / "manifest").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_never_replaces_one_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "manifest").write_text("first")
    with temporary_folder(tmp_path / "atlas") as folder:
        (folder / "manifest").write_text("second")
        with pytest.raises(OSError, match="not empty"):
            publish_folder(folder, tmp_path / "atlas")
    assert (tmp_path / "atlas" / "manifest").read_text() == "first"
