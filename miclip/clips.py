"""The CLIP models that atlases were made with: every atlas is read in the space it was made in.

An atlas keeps the id of its CLIP, which is a hash of the weights. The CLIPs of the bundles are found by loading them;
any other is kept as a card in ``settings().data_dir / "clips"``, a small file that says where its weights are.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from miclip.atlas import active_atlas_id, locate_atlas, read_manifest
from miclip.catalogue import Catalogue, pick_device
from miclip.errors import BadArtefact, InvalidInput, MiclipError, NotAligned, NotFound
from miclip.files import write_file
from miclip.models.clip import Clip, load_open_clip, load_open_clip_folder
from miclip.settings import settings

_HUB: Final = "hub"
_ID: Final = re.compile(r"[0-9a-f]{64}")
_LEAST_OF_ID: Final = 8
ALLOWED: Final = (
    "demo, default, NAME:FILE, NAME:hub:TAG, a folder with open_clip_config.json, or the name or id of a CLIP that is "
    "known here"
)

ALLOWED_BY_NAME: Final = "demo, default, or the name or id of a CLIP that an alignment here has used"


_bundled_ids: dict[Path, str] = {}
"""Ids of the CLIPs of bundles, by the bundle's folder, of those that this process has loaded."""


class ClipCard(BaseModel):
    """Where a CLIP comes from.

    Attributes:
        name: OpenCLIP's name of the model; empty where ``weights`` is a folder.
        weights: Absolute path of a file, ``hub:TAG``, or absolute path of a folder as OpenCLIP publishes its models.
        clip_id: What it is: see ``Clip.clip_id``.
        dim: Size of its space.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: str
    clip_id: str
    dim: int

    def load(self, device: str | None = None) -> Clip:
        """Load the CLIP; raises BadArtefact where its weights are missing or others now."""
        try:
            clip = _load(self.name, self.weights, device)
        except MiclipError as error:
            raise BadArtefact(
                f"The CLIP {self.shown} cannot be loaded: {error.message} {_remedy(self.clip_id)}"
            ) from error
        if clip.clip_id != self.clip_id:
            raise BadArtefact(f"The weights of the CLIP {self.shown} are not those of before. {_remedy(self.clip_id)}")
        return clip

    @property
    def shown(self) -> str:
        """The name for people: of a file or folder its last part, for paths are not shown to clients."""
        last = self.weights if self.weights.startswith(_HUB) else Path(self.weights).name
        return f"{self.name}:{last}" if self.name else last


def cards() -> list[ClipCard]:
    """Return the cards of this data directory, by name; those that cannot be read are left out."""
    found = []
    for path in sorted((settings().data_dir / "clips").glob("*.json")):
        with suppress(OSError, ValidationError):
            found.append(ClipCard.model_validate_json(path.read_bytes()))
    return sorted(found, key=lambda card: (card.shown, card.clip_id))


def choose_clip(text: str, device: str | None = None) -> Clip:
    """Load the CLIP that a user names, and keep its card where it comes from no bundle.

    Args:
        text: ``demo``: that of the first bundle. ``default`` or empty: the settings', else the first bundle's.
            ``NAME:FILE`` or ``NAME:hub:TAG``: of OpenCLIP. A folder as OpenCLIP publishes its models. Or the name, or
            the first eight or more digits of the id, of a CLIP that has a card.
        device: Where to run.

    Raises:
        InvalidInput: it is none of these, or cannot be loaded.
    """
    if text in ("", "default"):
        if not settings().clip:
            return Catalogue().load_clip(device)
        return _kept(settings().clip, settings().clip_weights, device)
    if text == "demo":
        bundled = Catalogue().bundled_clips()
        if bundled:
            return Catalogue().load_bundled_clip(bundled[0], device)
    if Path(text).is_dir():
        return _kept("", text, device)
    name, colon, weights = text.partition(":")
    if colon:
        return _kept(name, weights, device)
    return _carded(text).load(device)


def load_clip_of(clip_id: str, device: str | None = None) -> Clip:
    """Load the CLIP of an id, as atlases keep it.

    Args:
        clip_id: See ``Clip.clip_id``.
        device: Where to run.

    Raises:
        BadArtefact: no CLIP of that id is known here, or its weights are missing; the text says what to do.
    """
    card = read_card(clip_id)
    if card is not None:
        return card.load(device)
    catalogue = Catalogue()
    if settings().clip:
        with suppress(MiclipError):
            clip = catalogue.load_clip(device)
            if clip.clip_id == clip_id:
                return clip
    for bundle in catalogue.bundled_clips():
        if _bundled_ids.get(bundle.folder, clip_id) == clip_id:
            clip = catalogue.load_bundled_clip(bundle, device)
            _bundled_ids[bundle.folder] = clip.clip_id
            if clip.clip_id == clip_id:
                return clip
    raise unknown_clip(clip_id)


def clip_of_model(model: str, device: str | None = None) -> Clip:
    """Load the CLIP that a model's active atlas was made with; the default one where it has no atlas.

    Raises:
        BadArtefact: the CLIP of the atlas is not known here.
    """
    try:
        atlas_id = active_atlas_id(model)
        clip_id = read_manifest(locate_atlas(atlas_id)).clip_id
    except (NotAligned, NotFound):
        return choose_clip("", device)
    return load_clip_of(clip_id, device)


def known_clip_id(text: str, field: str = "clip") -> str:
    """Return the id of a CLIP that a request names, which names no file; empty for the default.

    Args:
        text: ``default``; ``demo``; or the name, or eight or more first digits of the id, of a CLIP that has a card.
        field: Of the request.

    Raises:
        InvalidInput: no CLIP, or several, are called so.
    """
    if text == "default":
        return ""
    if text == "demo" and (bundled := Catalogue().bundled_clips()):
        folder = bundled[0].folder
        if folder not in _bundled_ids:
            _bundled_ids[folder] = Catalogue().load_bundled_clip(bundled[0]).clip_id
        return _bundled_ids[folder]
    return _carded(text, field, ALLOWED_BY_NAME).clip_id


def read_card(clip_id: str) -> ClipCard | None:
    """Return the card of a CLIP; None without one that can be read."""
    if not _ID.fullmatch(clip_id):
        return None
    with suppress(OSError, ValidationError):
        card = ClipCard.model_validate_json(_path(clip_id).read_bytes())
        return card if card.clip_id == clip_id else None
    return None


def unknown_clip(clip_id: str) -> BadArtefact:
    """Return the error for a CLIP that is not known here."""
    return BadArtefact(
        f"The CLIP {clip_id[:12]} that the atlas was made with is not known here. {_remedy(clip_id)}",
        allowed="the id of a CLIP that is known here",
    )


def _remedy(clip_id: str) -> str:
    return (
        "Align once more with `miclip align --clip NAME:WEIGHTS`, which keeps that CLIP here; copy the file "
        f"clips/{clip_id[:12]}….json and the weights that it names into the data directory; or activate another atlas. "
        "Descriptions by the model's own labels need no CLIP."
    )


def _kept(name: str, weights: str, device: str | None) -> Clip:
    """Load a CLIP that a user names, and write its card; weights that moved get a new one."""
    clip = _load(name, weights, device)
    source = weights if weights.partition(":")[0] == _HUB else str(Path(weights).absolute())
    card = ClipCard(name=name, weights=source, clip_id=clip.clip_id, dim=clip.dim)
    if read_card(card.clip_id) != card:
        path = _path(card.clip_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, card.model_dump_json(indent=1).encode())
    return clip


def _load(name: str, weights: str, device: str | None) -> Clip:
    where = pick_device(device)
    return load_open_clip(name, weights, where) if name else load_open_clip_folder(Path(weights), where)


def _carded(text: str, field: str = "clip", allowed: str = ALLOWED) -> ClipCard:
    known = cards()
    found = [card for card in known if text in (card.name, card.shown)]
    found = found or [card for card in known if len(text) >= _LEAST_OF_ID and card.clip_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{card.shown} ({card.clip_id[:12]})" for card in (found or known)) or "none yet"
    what = "is the name of several CLIPs; give the id" if found else "is no CLIP"
    message = f"{field}: {text[:80]!r} {what}. Allowed is {allowed}. Known here: {names}."
    raise InvalidInput(message, field=field, allowed=allowed)


def _path(clip_id: str) -> Path:
    return settings().data_dir / "clips" / f"{clip_id}.json"
