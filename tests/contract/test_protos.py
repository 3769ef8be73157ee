"""What programs in other languages build on: the protos and the stubs made from them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("activation", "aligner", "retrieval", "steering")


def check_stubs(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "generate_protos.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_checked_in_stubs_are_those_of_the_protos() -> None:
    done = check_stubs(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", ["field added", "stub missing", "stub left over"])
def test_stale_stubs_are_noticed(tmp_path: Path, change: str) -> None:
    for folder in ("protos", "miclip/v1", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    proto = tmp_path / "protos/miclip/v1/resources.proto"
    if change == "field added":
        proto.write_text(proto.read_text().replace("message Timing {", "message Timing {\n  bool extra = 9;"))
    elif change == "stub missing":
        (tmp_path / "miclip/v1/steering_pb2.py").unlink()
    else:
        (tmp_path / "miclip/v1/gone_pb2.py").touch()
    done = check_stubs(tmp_path)
    assert done.returncode == 1
    assert "make proto" in done.stderr


def test_buf_finds_nothing_in_the_protos() -> None:
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run([str(buf), "lint"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("application", SERVICES)
def test_dispatch_by_the_last_path_segment_reaches_one_method_only(application: str) -> None:
    """Each proto holds one service, and no RPC is called as the health check is."""
    module = import_module(f"miclip.v1.{application}_pb2")
    assert list(module.DESCRIPTOR.services_by_name) == [f"{application.capitalize()}Service"]
    (service,) = module.DESCRIPTOR.services_by_name.values()
    names = [method.name for method in service.methods]
    assert len(names) == len(set(names))
    assert not {"Check", "Watch", "List"} & set(names)
