"""Labelled images to judge a model on: a folder with one subfolder per label, or a probe set with labels of its own.

Images that judge must not be those that labels are made from: images with the same bytes count once, and a single set
is split into halves.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from miclip.errors import InvalidInput, MiclipError
from miclip.images import check_image, decode_image
from miclip.probe_sets import find_source
from miclip.probe_sets.folder import FolderSource

LEAST = 16
"""Images that an alignment needs."""
_NAMED = 5  # names that a refusal lists


@dataclass(frozen=True)
class LabelledFile:
    """An image file: its name below the folder, its class, and the SHA-256 of its bytes."""

    name: str
    label: int
    sha256: str


class LabelledImages:
    """Labelled image files; a :class:`miclip.alignment.ProbeSet`.

    Args:
        name: Name of the set.
        read: Returns the encoded image of a name.
        files: The files, in the order of the rows.

    Attributes:
        labels: Class of every image, int64 ``[N]``.
        hashes: SHA-256 of every file, in order.
    """

    views = 1
    licence = "the user's images"

    def __init__(self, name: str, read: Callable[[str], bytes], files: Sequence[LabelledFile]) -> None:
        self.name, self._read, self.files = name, read, tuple(files)
        self.names = tuple(file.name for file in files)
        self.labels = torch.tensor([file.label for file in files], dtype=torch.int64)
        self.hashes = tuple(file.sha256 for file in files)
        listing = [(file.name, file.label, file.sha256) for file in files]
        self.sha256 = hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``."""
        return [decode_image(self._read(name), field=name) for name in self.names[start:stop]]

    def part(self, name: str, files: Iterable[LabelledFile]) -> LabelledImages:
        """Return some of the images under a name of their own."""
        return LabelledImages(name, self._read, tuple(files))

    def by_class(self) -> dict[int, list[LabelledFile]]:
        """Return the files by class, each class in the order of its hashes, which is that of chance."""
        groups: dict[int, list[LabelledFile]] = defaultdict(list)
        for file in sorted(self.files, key=lambda file: file.sha256):
            groups[file.label].append(file)
        return dict(sorted(groups.items()))


def read_labelled(path: Path, labels: Sequence[str]) -> tuple[LabelledImages, tuple[str, ...]]:
    """Read labelled images: a folder with one subfolder per label, or whatever ``find_source`` takes and has labels.

    A subfolder, or the label of an image, is a label of the model, or the number of its class: a label that several
    classes share, or that cannot be the name of a folder, has only its number. Images of the same bytes count once.

    Args:
        path: Where they are.
        labels: Labels of the model, by class.

    Returns:
        The images, and the names of those that cannot be decoded.

    Raises:
        InvalidInput: there is nothing there, a label is none of the model's, a label of the model has no images, or an
            image has two labels.
    """
    source = find_source(path)
    classes = _folder_names(labels)
    found = _subfolders(path) if isinstance(source, FolderSource) else {entry.label for entry in source.entries}
    _check_names(source.name, sorted(label for label in found if label is not None), labels, classes)
    files: dict[str, LabelledFile] = {}
    broken = list(source.broken)
    for entry in source.entries:
        if entry.label is None:
            continue
        try:
            data = source.read(entry.place)
            check_image(data, field=entry.name)
        except (OSError, MiclipError):
            broken.append(entry.name)
            continue
        sha256 = hashlib.sha256(data).hexdigest()
        file = LabelledFile(entry.name, classes[entry.label], sha256)
        if files.setdefault(sha256, file).label != file.label:
            text = f"images: {files[sha256].name!r} and {file.name!r} are the same image under two labels."
            raise InvalidInput(text, field="images", allowed="one label an image")
    images = LabelledImages(source.name, lambda name: source.read(source.find(name)), list(files.values()))
    _check_every_class(images, labels, 1, "has no images")
    return images, tuple(broken)


def halves(images: LabelledImages, labels: Sequence[str]) -> tuple[LabelledImages, LabelledImages]:
    """Split images into those that labels are made from and those that judge, every second of a class by its hash.

    Raises:
        InvalidInput: a class has a single image, or the first half is too small for an alignment.
    """
    _check_every_class(images, labels, 2, "has one image; a folder that is split needs two of every class")
    groups = images.by_class().values()
    aligning = images.part(f"{images.name} (half that labels are made from)", (f for g in groups for f in g[1::2]))
    judging = images.part(f"{images.name} (half that judges)", (f for g in groups for f in g[0::2]))
    if len(aligning.names) < LEAST:
        text = f"images: half of the folder is {len(aligning.names)} images; an alignment needs at least {LEAST}."
        raise InvalidInput(text, field="images", allowed=f"{2 * LEAST} or more")
    return aligning, judging


def apart_from(images: LabelledImages, hashes: Collection[str], labels: Sequence[str]) -> LabelledImages:
    """Return the images whose files have none of some SHA-256; raises InvalidInput where a class loses all."""
    rest = images.part(images.name, (file for file in images.files if file.sha256 not in hashes))
    _check_every_class(rest, labels, 1, "has no images beside those that labels are made from")
    return rest


def at_most(images: LabelledImages, most: int) -> LabelledImages:
    """Return at most ``most`` images of every class, chosen by the hash of their files."""
    return images.part(images.name, (file for group in images.by_class().values() for file in group[:most]))


def _folder_names(labels: Sequence[str]) -> dict[str, int]:
    """The class of every name that a subfolder may have."""
    shared = Counter(labels)
    numbers = {str(index): index for index in range(len(labels))}
    own = {label: index for index, label in enumerate(labels) if shared[label] == 1 and "/" not in label}
    return {**numbers, **own}


def _subfolders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _check_names(name: str, found: Sequence[str], labels: Sequence[str], classes: dict[str, int]) -> None:
    unknown = [name for name in found if name not in classes]
    present = {classes[name] for name in found if name in classes}
    missing = [_shown(label, index, classes) for index, label in enumerate(labels) if index not in present]
    if unknown or missing:
        parts = [f"{what}: {_few(names)}." for what, names in (("Unknown", unknown), ("Missing", missing)) if names]
        text = f"images: the labels of {name!r}, its subfolders in a folder, are not the {len(labels)} of the model. "
        raise InvalidInput(text + " ".join(parts), field="images", allowed="one subfolder per label, called like it")


def _shown(label: str, index: int, classes: dict[str, int]) -> str:
    return repr(label) if classes.get(label) == index else f"'{index}' (for {label!r})"


def _check_every_class(images: LabelledImages, labels: Sequence[str], least: int, fault: str) -> None:
    counts = Counter(file.label for file in images.files)
    poor = [repr(label) for index, label in enumerate(labels) if counts[index] < least]
    if poor:
        text = f"images: in {images.name!r}, {_few(poor)} {fault}."
        raise InvalidInput(text, field="images", allowed=f"at least {least} images of every class")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
