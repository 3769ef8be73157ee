"""Another atlas takes over within two seconds and without a failed call; a broken one is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from miclip.demo.assets import ATLASES
from miclip.v1 import aligner_pb2
from miclip.v1 import retrieval_pb2 as pb
from tests.names import RESNET_NAME as MODEL
from tests.waiting import wait_until

DESCRIBE = pb.DescribeUnitsRequest(units=[f"{MODEL}/layers/layer4/units/0"])


def serving(wire: Any) -> str:
    """Id of the atlas that answers now."""
    return wire.call("retrieval/DescribeUnits", DESCRIBE).provenance.atlas.removeprefix("atlases/")


def activate(wire: Any, atlas_id: str) -> Any:
    request = aligner_pb2.ActivateAtlasRequest(name=f"atlases/{atlas_id}")
    return wire.call("aligner/ActivateAtlas", request).atlas


def choose(active: Path, atlas_id: str) -> None:
    """Write the file of active atlases as the library does, without verifying the atlas."""
    before = json.loads(active.read_text()) if active.exists() else {}
    temporary = active.with_suffix(".test")
    temporary.write_text(json.dumps({**before, "emoji-resnet": atlas_id}))
    temporary.replace(active)


class Atlases:
    """Copies of the serving atlas, changed and put where the server finds them."""

    def __init__(self, root: Path, origin: Path) -> None:
        self.root, self.origin, self.made = root, origin, []

    def copy(self, change: Callable[[Path, dict[str, Any]], None]) -> str:
        """A copy whose files and manifest ``change`` alters; named by its manifest's hash, as atlases are."""
        draft = self.root / f"draft-{uuid.uuid4().hex}"
        shutil.copytree(self.origin, draft)
        manifest = json.loads((draft / "manifest.json").read_bytes())
        manifest["licence"] += f" (copy {uuid.uuid4().hex})"  # so that its id is its own
        change(draft, manifest)
        data = (json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
        (draft / "manifest.json").write_bytes(data)
        atlas_id = hashlib.sha256(data).hexdigest()
        draft.rename(self.root / atlas_id)
        self.made.append(self.root / atlas_id)
        return atlas_id


@pytest.fixture
def atlases(wire: Any, server: Any) -> Iterator[Atlases]:
    original = serving(wire)
    root = Path(server.data_dir) / "atlases"
    root.mkdir(parents=True, exist_ok=True)
    made = Atlases(root, next(at for at in (root / original, ATLASES / original) if at.is_dir()))
    yield made
    activate(wire, original)
    wait_until(lambda: serving(wire) == original, 5)
    for path in made.made:
        shutil.rmtree(path)


def unharmed(_path: Path, _manifest: dict[str, Any]) -> None:
    pass


def test_an_activated_atlas_serves_within_two_seconds_and_no_call_fails(wire: Any, atlases: Atlases) -> None:
    copy, failures, answers, stop = atlases.copy(unharmed), [], [], threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            try:
                answers.append(serving(wire))
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        shown = activate(wire, copy)
        assert shown.active and shown.name == f"atlases/{copy}"
        wait_until(lambda: serving(wire) == copy, 2.0)
        before = len(answers)
        wait_until(lambda: len(answers) > before + 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(answers) == {atlases.origin.name, copy}
    assert answers[-1] == copy
    shown = wire.call("aligner/GetAtlas", aligner_pb2.GetAtlasRequest(name=f"atlases/{atlases.origin.name}")).atlas
    assert not shown.active


def truncated(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["layers"][0]["file"]
    file.write_bytes(file.read_bytes()[:-100])


def flipped(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["layers"][0]["file"]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def swapped(path: Path, manifest: dict[str, Any]) -> None:
    first, second = (path / manifest["layers"][place]["file"] for place in (0, 1))
    between = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(between)


def incomplete(path: Path, manifest: dict[str, Any]) -> None:
    (path / manifest["layers"][0]["file"]).unlink()


def too_new(_path: Path, manifest: dict[str, Any]) -> None:
    manifest["schema_version"] = 4


def foreign(_path: Path, manifest: dict[str, Any]) -> None:
    manifest["weights_sha256"] = "0" * 64


def other_clip(_path: Path, manifest: dict[str, Any]) -> None:
    manifest["clip_id"] = "0" * 64


def pickled(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["layers"][0]["file"]
    file.write_bytes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
    entry = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
    manifest["files"][file.name] = entry


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (truncated, "truncated"),
        (flipped, "checksum"),
        (swapped, "bytes instead of"),
        (incomplete, "missing"),
        (too_new, "schema version 4"),
        (foreign, "other weights"),
        (other_clip, "is not known here"),
        (pickled, "safetensors"),
    ],
)
def test_a_broken_atlas_is_refused_clearly_and_the_old_one_serves_on(
    wire: Any, atlases: Atlases, change: Any, says: str
) -> None:
    broken = atlases.copy(change)
    refusal = wire.refusal("aligner/ActivateAtlas", aligner_pb2.ActivateAtlasRequest(name=f"atlases/{broken}"))
    assert refusal.code == "FAILED_PRECONDITION"
    assert says in refusal.message and str(atlases.root) not in refusal.message
    assert serving(wire) == atlases.origin.name


def test_an_atlas_broken_behind_the_servers_back_is_not_taken(wire: Any, server: Any, atlases: Atlases) -> None:
    broken, active = atlases.copy(truncated), Path(server.data_dir) / "active.json"
    choose(active, broken)
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert serving(wire) == atlases.origin.name
        time.sleep(0.1)


def test_what_the_library_activates_is_picked_up_too(wire: Any, server: Any, atlases: Atlases) -> None:
    copy, active = atlases.copy(unharmed), Path(server.data_dir) / "active.json"
    choose(active, copy)
    wait_until(lambda: serving(wire) == copy, 10)
