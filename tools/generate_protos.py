#!/usr/bin/env python3
"""Generate the Python stubs of ``protos/`` into ``miclip/v1``, or with ``--check`` say which are stale."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("miclip/v1")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def generate(out: Path) -> None:
    """Write the stubs of every proto under ``out``/miclip/v1; raises SystemExit where protoc refuses a file."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    sources = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *sources]) != 0:
        raise SystemExit("protoc refused the protos; see above.")
    for path in (out / PACKAGE).glob("*_pb2_grpc.py"):
        if "def add_" not in path.read_text():  # a file without a service
            path.unlink()


def stale(fresh: Path, current: Path) -> list[str]:
    """Return the names of stubs that differ, are missing or should not be there."""
    names = {path.name for folder in (fresh, current) for path in folder.iterdir() if path.name.endswith(SUFFIXES)}
    _, different, missing = filecmp.cmpfiles(fresh, current, names, shallow=False)
    return sorted(different + missing)


def main() -> int:
    """Generate or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a stub is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, current = Path(scratch) / PACKAGE, ROOT / PACKAGE
        names = stale(fresh, current)
        if check:
            for name in names:
                print(f"{PACKAGE / name} is stale: run `make proto`.", file=sys.stderr)
            return bool(names)
        for name in names:
            if (fresh / name).exists():
                shutil.copyfile(fresh / name, current / name)
            else:
                (current / name).unlink()
    print(f"{len(names)} stubs of {PACKAGE} renewed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
