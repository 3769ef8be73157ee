"""What the container image is made of, read from the files that it is made by."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VARIANTS = ("cpu", "cuda")


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"^(\S+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", text, re.M)
    assert len(entries) == text.count("=="), "every line is a package with its hashes"
    return {canonicalize_name(package): (version, hashes.count("sha256")) for package, version, hashes in entries}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): version for package, version in pairs}


@pytest.mark.parametrize("name", [*VARIANTS, "build"])
def test_every_wheel_of_the_image_is_pinned_by_its_hash_at_the_version_that_the_tests_run(name: str) -> None:
    tested, found = constraints(), locked(name)
    assert min(hashes for _, hashes in found.values()) >= 1
    versions = {package: version.removesuffix("+cpu") for package, (version, _) in found.items()}
    stale = {package for package, version in versions.items() if tested.get(package, version) != version}
    assert stale == set(), "run `make lock`"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_lock_has_every_dependency_and_the_variants_build_of_torch(variant: str) -> None:
    found = locked(variant)
    requirements = [
        Requirement(text)
        for text in (*PROJECT["dependencies"], *EXTRAS["local"], *EXTRAS["serve"][1:], *EXTRAS["otel"])
    ]
    assert EXTRAS["serve"][0] == "miclip[local]"
    assert {canonicalize_name(one.name) for one in requirements} <= found.keys(), "run `make lock`"
    for requirement in requirements:
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement
    assert (found["torch"][0].endswith("+cpu"), "nvidia-cublas" in found) == (variant == "cpu", variant == "cuda")


def test_the_image_says_its_version_and_licence() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    assert labels["version"] == PROJECT["version"]
    assert labels["licenses"] == PROJECT["license"]
    assert labels["description"] == PROJECT["description"]


def test_the_base_is_pinned_by_its_digest_and_what_is_installed_by_hashes() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.M)
    installs = [line for line in DOCKERFILE.replace("\\\n", "").splitlines() if "pip" in line and " install " in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_what_the_build_copies_is_in_the_repository() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [name for name in kept if not (ROOT / name).exists()] == []
