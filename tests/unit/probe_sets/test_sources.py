"""Every source of probe images gives the same images, counts what is broken, and is read again where a run stopped."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from miclip.alignment import ActivationStore
from miclip.errors import InvalidInput
from miclip.evaluation.labelled import read_labelled
from miclip.probe_sets import find_source
from miclip.probe_sets.images import open_images
from miclip.settings import settings

COUNT = 40
CLASSES = ("dog", "red car", "boat")


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png(number) for number in range(COUNT)]
BROKEN = IMAGES[0][:40]


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(numbers: Iterable[int]) -> list[tuple[str, bytes]]:
    return [
        member
        for number in numbers
        for member in ((f"{number:04d}.png", IMAGES[number]), (f"{number:04d}.cls", str(number % 3).encode()))
    ]


def folder(path: Path) -> Path:
    for number, data in enumerate(IMAGES):
        file = path / "folder" / CLASSES[number % 3] / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (path / "folder" / CLASSES[0] / "broken.png").write_bytes(BROKEN)
    return path / "folder"


def one_tar(path: Path) -> Path:
    return write_tar(path / "one.tar", [*samples(range(COUNT)), ("broken.png", BROKEN), ("broken.cls", b"0")])


def shards(path: Path) -> Path:
    for shard in range(4):
        write_tar(path / "shards" / f"{shard:03d}.tar", samples(range(shard * 10, shard * 10 + 10)))
    write_tar(path / "shards" / "004.tar", [("broken.png", BROKEN)])
    return path / "shards" / "{000..004}.tar"


def folder_of_shards(path: Path) -> Path:
    return shards(path).parent


def table(numbers: Iterable[int], *extra: bytes | None) -> pa.Table:
    numbers = list(numbers)
    images = [{"bytes": data, "path": f"{place}.png"} for place, data in enumerate([IMAGES[n] for n in numbers])]
    images += [{"bytes": data, "path": "gone.png"} for data in extra]
    labels = [number % 3 for number in numbers] + [0] * len(extra)
    features = {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    schema = pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    return pa.table({"image": images, "label": labels}, schema=schema)


def parquet(path: Path) -> Path:
    (path / "tables").mkdir()
    pq.write_table(table(range(25)), path / "tables" / "train-00000.parquet", row_group_size=7)
    pq.write_table(table(range(25, COUNT), BROKEN, None), path / "tables" / "train-00001.parquet", row_group_size=100)
    return path / "tables"


def plain_parquet(path: Path) -> Path:
    """Bytes and the names of the classes, without Hugging Face's notes."""
    labels = [CLASSES[number % 3] for number in range(COUNT)]
    columns = pa.table({"id": list(range(COUNT)), "jpg": IMAGES, "class": labels})
    pq.write_table(columns, path / "plain.parquet")
    return path / "plain.parquet"


def saved(path: Path) -> Path:
    """As ``datasets.Dataset.save_to_disk`` writes it."""
    (path / "saved").mkdir()
    names = []
    for number, part in enumerate([table(range(25)), table(range(25, COUNT), BROKEN)]):
        names.append(f"data-{number:05d}-of-00002.arrow")
        with pa.OSFile(str(path / "saved" / names[-1]), "wb") as file, pa.ipc.new_stream(file, part.schema) as writer:
            writer.write_table(part, max_chunksize=6)
    (path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (path / "saved" / "dataset_info.json").write_text("{}")
    return path / "saved"


def saved_in_splits(path: Path) -> Path:
    (path / "splits").mkdir()
    saved(path).rename(path / "splits" / "train")
    (path / "splits" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    return path / "splits"


ALL: tuple[Callable[[Path], Path], ...] = (
    folder, one_tar, shards, folder_of_shards, parquet, plain_parquet, saved, saved_in_splits,
)  # fmt: skip
every_source = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


def colours(images: list[Any]) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


@every_source
def test_every_source_gives_the_same_images(make: Any, tmp_path: Path) -> None:
    probe = open_images(make(tmp_path))
    loaded = colours(probe.load(0, len(probe.names)))
    expected = sorted(range(COUNT), key=lambda number: (sorted(CLASSES).index(CLASSES[number % 3]), number))
    assert loaded == (expected if make is folder else list(range(COUNT)))
    assert len(set(probe.names)) == len(probe.names) == COUNT
    assert (probe.views, len(probe.sha256), len(set(probe.hashes))) == (1, 64, COUNT)


@every_source
def test_rows_are_had_in_any_order(make: Any, tmp_path: Path) -> None:
    probe = open_images(make(tmp_path))
    whole = colours(probe.load(0, COUNT))
    assert colours(probe.load(38, 50)) == whole[38:]
    assert colours(probe.load(3, 20)) == whole[3:20]
    assert [colours(probe.load(row, row + 1))[0] for row in (24, 25, 6, 7, 39, 0)] == [
        whole[row] for row in (24, 25, 6, 7, 39, 0)
    ]


@every_source
def test_a_source_that_is_opened_again_is_the_same_and_changed_pixels_change_its_hash(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    first, second = open_images(path), open_images(path)
    assert (first.names, first.sha256) == (second.names, second.sha256)
    (tmp_path / "other").mkdir()
    monkeypatch.setitem(globals(), "IMAGES", [*IMAGES[:3], png(999), *IMAGES[4:]])
    assert open_images(make(tmp_path / "other")).sha256 != first.sha256


@every_source
def test_broken_images_are_counted_and_listed_and_never_fatal(make: Any, tmp_path: Path) -> None:
    probe = open_images(make(tmp_path))
    expected = {
        "folder": ("dog/broken.png",), "one_tar": ("broken.png",), "shards": ("004.tar/broken.png",),
        "folder_of_shards": ("004.tar/broken.png",),
        "parquet": ("train-00001.parquet#15", "train-00001.parquet#16"), "plain_parquet": (),
        "saved": ("data-00001-of-00002.arrow#15",), "saved_in_splits": ("data-00001-of-00002.arrow#15",),
    }  # fmt: skip
    assert probe.skipped == expected[make.__name__]
    assert probe.listed == COUNT + len(probe.skipped)


@every_source
def test_a_limit_takes_images_from_all_over(make: Any, tmp_path: Path) -> None:
    probe = open_images(make(tmp_path), limit=20)
    numbers = colours(probe.load(0, 20))
    assert 19 <= len(numbers) <= 20, "one may be the broken image"
    assert min(numbers) < 5 and max(numbers) > 34


@every_source
def test_labelled_sources_serve_evaluation(make: Any, tmp_path: Path) -> None:
    labelled, broken = read_labelled(make(tmp_path), CLASSES)
    assert len(labelled.names) == COUNT
    numbers = colours(labelled.load(0, COUNT))
    assert labelled.labels.tolist() == [number % 3 for number in numbers]
    assert len(broken) == (0 if make is plain_parquet else 1 if make is not parquet else 2) - (
        make in (shards, folder_of_shards)
    ), "what has no label is left out"


def test_labels_of_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Unknown: boat, red car"):
        read_labelled(plain_parquet(tmp_path), ["dog", "tree", "car"])


def test_a_json_label_or_the_folder_of_a_member_is_a_label(tmp_path: Path) -> None:
    members = [("a.jpg", IMAGES[0]), ("a.json", b'{"label": "dog"}'), ("b.json", b'{"cls": 4}'), ("b.png", IMAGES[1])]
    members += [("boat/c.d.png", IMAGES[2]), ("e.png", IMAGES[3]), ("e.json", b"[not json"), ("f.txt", b"a dog")]
    source = find_source(write_tar(tmp_path / "a.tar", members))
    assert [(entry.name, entry.label) for entry in source.entries] == [
        ("a.jpg", "dog"), ("b.png", "4"), ("boat/c.d.png", "boat"), ("e.png", None),
    ]  # fmt: skip


def test_a_tar_that_is_cut_gives_what_it_still_holds(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "cut.tar", samples(range(COUNT)))
    path.write_bytes(path.read_bytes()[: 30 * 4 * 512 + 700])
    probe = open_images(path)
    assert 0 < COUNT - len(probe.names) <= 11
    assert "cut.tar" in probe.skipped


def test_a_tar_unpacks_nothing_and_reads_neither_links_nor_hidden_files(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(["../../evil.png", "/etc/evil.png", "good.png", ".hidden/x.png", "._x.png"]):
            info = tarfile.TarInfo(name)
            info.size = len(IMAGES[number])
            tar.addfile(info, io.BytesIO(IMAGES[number]))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = set(tmp_path.rglob("*"))
    source = find_source(path)
    assert [entry.name for entry in source.entries] == ["/etc/evil.png", "good.png"]
    assert [source.read(entry.place) for entry in source.entries] == IMAGES[1:3]
    assert set(tmp_path.rglob("*")) == before


def test_a_member_larger_than_an_image_may_be_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "large.tar", [*samples(range(20)), ("huge.png", bytes(100_000))])
    monkeypatch.setenv("MICLIP_MAX_IMAGE_BYTES", "5000")
    settings.cache_clear()
    try:
        source = find_source(path)
        assert len(source.read(source.find("huge.png"))) == 5001
        assert open_images(path).skipped == ("huge.png",)
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_file_that_is_no_shard_or_no_table_is_listed_as_broken(tmp_path: Path) -> None:
    shards(tmp_path)
    (tmp_path / "shards" / "002.tar").write_bytes(b"no tar at all" * 100)
    assert "002.tar" in open_images(tmp_path / "shards").skipped
    parquet(tmp_path)
    (tmp_path / "tables" / "train-00000.parquet").write_bytes(b"PAR1 no parquet PAR1")
    assert "train-00000.parquet" in open_images(tmp_path / "tables", least=5).skipped


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "there is no 'nowhere'"),
        ("shards/{000..007}.tar", "3 of the 8 files of '{000..007}.tar' are missing, '005.tar' first"),
        ("shards/{0..999999999}.tar", "names 1000000000 files"),
        ("notes.txt", "'notes.txt' is no probe set"),
        ("all.tar.gz", "compressed as a whole"),
        ("empty", "found 0 images"),
        ("both", "holds both shards and Parquet files"),
        ("two", "holds 2 splits. Name one of them: two/a, two/b"),
        ("numbers.parquet", "no column of 'numbers.parquet' is known to hold images; its columns are x"),
    ],
)
def test_what_cannot_be_a_probe_set_is_refused_with_what_can(path: str, message: str, tmp_path: Path) -> None:
    shards(tmp_path)
    for name in ("notes.txt", "all.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("empty", "both", "two/a", "two/b"):
        (tmp_path / name).mkdir(parents=True)
    write_tar(tmp_path / "both" / "a.tar", [])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "both" / "a.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    with pytest.raises(InvalidInput) as caught:
        open_images(tmp_path / path)
    assert message in caught.value.message


def test_names_that_repeat_are_told_apart(tmp_path: Path) -> None:
    source = find_source(write_tar(tmp_path / "a.tar", [("a.png", IMAGES[0]), ("a.png", IMAGES[1])]))
    assert [entry.name for entry in source.entries] == ["a.png", "a.png~2"]


def test_a_folder_with_images_is_a_folder_whatever_else_is_in_it(tmp_path: Path) -> None:
    path = folder(tmp_path)
    write_tar(path / "backup.tar", samples(range(3)))
    assert len(open_images(path).names) == COUNT


def test_listing_holds_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source(shards(tmp_path))
    monkeypatch.setattr(type(source), "read", lambda *_: pytest.fail("an image was read"))
    assert len(source.entries) == COUNT + 1


class _Model:
    name, weights_sha256, dictionaries = "m", "w", {}


class _Clip:
    clip_id = "c"


def test_a_stopped_pass_over_shards_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = shards(tmp_path), []

    def compute(_store: Any, images: list[Any]) -> dict[str, Any]:
        seen.append(colours(images))
        return {"logits": np.zeros((len(images), 1), np.float32)}

    monkeypatch.setattr("miclip.alignment.probe.CHUNK", 16)
    monkeypatch.setattr(ActivationStore, "_compute", compute)
    answers = iter([False, True])
    make = lambda: ActivationStore(tmp_path / "store", _Model(), _Clip(), open_images(path), [])  # type: ignore[arg-type]  # noqa: E731
    make().fill(cancelled=lambda: next(answers))
    make().fill()
    assert [number for chunk in seen for number in chunk] == list(range(COUNT)), "each image once"
