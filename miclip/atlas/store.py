"""Where atlases lie, and which one a model uses."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from miclip.atlas.manifest import AtlasManifest
from miclip.atlas.read import Atlas, is_atlas_id, read_manifest, verify
from miclip.bundles import bundles
from miclip.errors import BadArtefact, InvalidInput, NotAligned, NotFound
from miclip.files import write_file
from miclip.settings import settings

_ACTIVE = "active.json"


def atlas_root() -> Path:
    """Directory that new atlases are written to."""
    return settings().data_dir / "atlases"


def atlas_roots() -> tuple[Path, ...]:
    """Directories that atlases are looked for in: ``atlas_root()``, then those of the bundles, which are read-only."""
    return (atlas_root(), *(bundle.atlases for bundle in bundles()))


def list_atlases() -> dict[str, AtlasManifest]:
    """Return id → manifest of every atlas there is, own ones first; those with an unreadable manifest are left out."""
    found: dict[str, AtlasManifest] = {}
    for root in atlas_roots():
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if is_atlas_id(path.name) and path.name not in found:
                try:
                    found[path.name] = read_manifest(path)
                except BadArtefact:
                    continue
    return found


def locate_atlas(atlas_id: str) -> Path:
    """Return the directory of an atlas; raises InvalidInput when it is no id, NotFound when there is none."""
    if not is_atlas_id(atlas_id):
        raise InvalidInput(
            f"{atlas_id[:80]!r} is not an atlas id.", field="name", allowed="64 lower-case hexadecimal digits"
        )
    for root in atlas_roots():
        if (root / atlas_id).is_dir():
            return root / atlas_id
    raise NotFound(f"There is no atlas {atlas_id}. List the atlases to see those there are.", field="name")


def active_atlas_id(model: str) -> str:
    """Return the id of the atlas that ``model`` uses: the one activated last, else a bundle's.

    Raises:
        NotAligned: the model has none.
    """
    if chosen := _read_active().get(model):
        return chosen
    for bundle in bundles():
        for path in sorted(bundle.atlases.iterdir()) if bundle.atlases.is_dir() else ():
            if is_atlas_id(path.name) and read_manifest(path).model == model:
                return path.name
    raise NotAligned(
        f"Model {model[:80]!r} has no atlas yet. Align it first: miclip align --model {model[:80]}.", field="model"
    )


def find_atlas(model: str, *, model_weights_sha256: str | None = None) -> Atlas:
    """Open the atlas that ``model`` uses.

    Raises:
        NotAligned: the model has none.
        BadArtefact: it is broken or was made for other weights.
    """
    atlas_id = active_atlas_id(model)
    return Atlas.open(_root_of(atlas_id), atlas_id, model_weights_sha256=model_weights_sha256)


def activate_atlas(atlas_id: str) -> AtlasManifest:
    """Make an atlas the one that its model uses, after verifying it wholly.

    Raises:
        InvalidInput: not an atlas id.
        NotFound: no such atlas.
        BadArtefact: it is broken; the model keeps the one it has.
    """
    manifest = verify(locate_atlas(atlas_id))
    with _locked(settings().data_dir):
        before: dict[str, str] = {}
        with suppress(BadArtefact):  # a damaged list says to activate again, so that must work
            before = _read_active()
        active = {**before, manifest.model: atlas_id}
        write_file(settings().data_dir / _ACTIVE, json.dumps(active, indent=1, sort_keys=True))
    return manifest


def deactivate_atlas(model: str) -> None:
    """Let a model use no atlas of its own any more; that of a bundle, where there is one, answers again."""
    with _locked(settings().data_dir):
        active = {name: atlas for name, atlas in _read_active().items() if name != model}
        write_file(settings().data_dir / _ACTIVE, json.dumps(active, indent=1, sort_keys=True))


def remove_atlas(atlas_id: str, *, force: bool = False) -> None:
    """Delete an atlas that was made here.

    Args:
        atlas_id: Its id.
        force: Also the one that its model uses, which then has none.

    Raises:
        InvalidInput: not an atlas id; a bundle's atlas; or it is active.
        NotFound: no such atlas.
    """
    path = locate_atlas(atlas_id)
    if path.parent != atlas_root():
        text = f"Atlas {atlas_id[:12]} is not yours to remove: it comes with a bundle."
        raise InvalidInput(text, field="name", allowed="atlases made here")
    users = [model for model, active in _read_active().items() if active == atlas_id]
    if users and not force:
        text = f"Atlas {atlas_id[:12]} is the one that {users[0]!r} uses. Use --force to remove it all the same."
        raise InvalidInput(text, field="name")
    for model in users:
        deactivate_atlas(model)
    gone = path.with_name(f".removed-{atlas_id}")
    path.rename(gone)  # at once: no reader finds half an atlas
    shutil.rmtree(gone)


def full_atlas_id(prefix: str) -> str:
    """Return the id of the one atlas that begins so; raises NotFound, or InvalidInput where several do."""
    found = [atlas_id for atlas_id in list_atlases() if atlas_id.startswith(prefix)] if prefix else []
    if not found:
        raise NotFound(f"There is no atlas {prefix[:80]!r}. `miclip atlases` lists them.", field="name")
    if len(found) > 1:
        allowed = ", ".join(atlas_id[:12] for atlas_id in found[:8])
        raise InvalidInput(f"{prefix!r} is the beginning of several atlases: {allowed}.", field="name", allowed=allowed)
    return found[0]


def atlas_bytes(atlas_id: str) -> int:
    """Return the size of an atlas on disk in bytes; raises NotFound."""
    return sum(path.stat().st_size for path in locate_atlas(atlas_id).rglob("*") if path.is_file())


def is_bundled(atlas_id: str) -> bool:
    """Whether an atlas comes with a bundle; raises NotFound."""
    return locate_atlas(atlas_id).parent != atlas_root()


def _root_of(atlas_id: str) -> Path:
    try:
        return locate_atlas(atlas_id).parent
    except NotFound as error:
        raise BadArtefact(f"The active atlas {atlas_id[:12]} is missing. Activate another, or align again.") from error


def _read_active() -> dict[str, str]:
    path = settings().data_dir / _ACTIVE
    try:
        active = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BadArtefact("The list of active atlases is damaged. Activate the atlases again.") from error
    if not isinstance(active, dict) or not all(isinstance(i, str) and is_atlas_id(i) for i in active.values()):
        raise BadArtefact("The list of active atlases is damaged. Activate the atlases again.")
    return active


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".active.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
