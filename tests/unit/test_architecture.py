"""The plan of the house, held against the imports of the code: rooms, their size, and which way imports point."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("miclip", "services") for path in (ROOT / package).rglob("*.py") if "v1" not in path.parts
)
SERVICE_ROOMS = {"activation", "aligner", "retrieval", "steering", "rpc", "wire", "state", "metrics", "node"}
MOST_MODULES = 10
MOST_LINES = 350

# from the ground up; a room imports rooms of lower floors, or of its own floor without a circle
FLOORS = (
    {"cpus", "errors", "evidence", "promise", "files", "kinds", "progress", "v1"},
    {"_tracing", "local_server", "names", "row_store", "settings", "texts"},
    {"bundles", "images", "telemetry"},
    {"atlas", "probe_sets", "steering"},
    {"models", "retrieval"},
    {"catalogue", "clips", "wire"},
    {"alignment", "client"},
    {"attach", "dictionaries"},
    {"pictures"},
    {"evaluation"},
    {"demo"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    """Dotted name of a source file; a package's ``__init__`` is the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ("miclip", "services"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("miclip", "services"):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def room_of(module: str) -> str:
    """``miclip.ROOM`` or ``services.ROOM``; a module beside the rooms is a room of its own."""
    return ".".join(module.split(".")[:2])


def room_imports(package: str) -> dict[str, set[str]]:
    """Rooms of a package, each with the other rooms of the package that it imports."""
    rooms: dict[str, set[str]] = {}
    for path in SOURCES:
        room = room_of(module_of(path))
        if room.startswith(f"{package}."):
            others = {room_of(name) for name in imported(path)} - {room, package}
            rooms.setdefault(room, set()).update(other for other in others if other.startswith(f"{package}."))
    return rooms


def test_services_opens_to_nine_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert folders == SERVICE_ROOMS
    assert [path.name for path in (ROOT / "services").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", sorted(SERVICE_ROOMS))
def test_a_room_of_services_has_at_most_ten_modules(room: str) -> None:
    modules = sorted(path.name for path in (ROOT / "services" / room).rglob("*.py"))
    assert 0 < len(modules) <= MOST_MODULES, modules


def test_no_module_is_too_long() -> None:
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {module: lines for module, lines in lengths.items() if lines > MOST_LINES} == {}


def test_only_the_command_line_imports_services() -> None:
    importers = {
        module_of(path)
        for path in SOURCES
        if module_of(path).startswith("miclip") and any(name.split(".")[0] == "services" for name in imported(path))
    }
    assert importers
    assert {module for module in importers if not module.startswith("miclip.cli.")} == set()


def test_only_the_command_line_knows_the_demo() -> None:
    importers = {
        module_of(path)
        for path in SOURCES
        if any(name == "miclip.demo" or name.startswith("miclip.demo.") for name in imported(path))
    }
    assert {module for module in importers if not module.startswith(("miclip.cli.", "miclip.demo"))} == set()


def test_every_room_of_the_library_has_a_floor() -> None:
    assert {room.removeprefix("miclip.") for room in room_imports("miclip")} <= FLOOR.keys()


def test_imports_of_the_library_point_downwards() -> None:
    upward = {
        f"{room} -> {other}"
        for room, others in room_imports("miclip").items()
        for other in others
        if FLOOR[room.removeprefix("miclip.")] < FLOOR[other.removeprefix("miclip.")]
    }
    assert upward == set()


@pytest.mark.parametrize("package", ["miclip", "services"])
def test_rooms_import_each_other_without_a_circle(package: str) -> None:
    graphlib.TopologicalSorter(room_imports(package)).prepare()  # raises CycleError


def test_modules_import_each_other_without_a_circle() -> None:
    modules = {module_of(path): {name for name in imported(path) if name in MODULES} for path in SOURCES}
    within = {module: names - {module} for module, names in modules.items()}
    graphlib.TopologicalSorter(within).prepare()
