"""Which models may be loaded, and from where.

A model is a key of the catalogue, never a path from a request. There are three sources; the first that knows an id
wins:

* the models of the bundles (``miclip.bundles``), by default those that come with the package;
* models imported into ``settings().data_dir / "models"`` (``Catalogue.import_model``);
* the JSON file ``settings().catalogue``: ``{"models": {ID: {"source": "timm/resnet50", "weights": FILE, "labels":
  FILE, "layers": [PATH, …]}}}``. Weights are a safetensors file or ``"hub"``; labels and layers may be left out.
  A relative FILE is in the folder of the catalogue file.

Dictionaries of a model lie in ``{model}.dictionaries/{id}/``, in the bundle's folder of models or in
``settings().data_dir / "models"`` whichever source the model has, and are loaded with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

from miclip.atlas import active_atlas_id, deactivate_atlas
from miclip.bundles import Bundle, bundles
from miclip.errors import AlreadyExists, BadArtefact, InvalidInput, NotAligned, NotFound
from miclip.models.card import ModelCard, make_card, read_card, write_card
from miclip.models.clip import Clip, build_clip, load_open_clip
from miclip.models.dictionaries import MANIFEST as DICTIONARY_MANIFEST
from miclip.models.dictionaries import DictionaryManifest, dictionary_folder, read_dictionaries
from miclip.models.entries import Entry, entry_state, read_entries
from miclip.models.factory import is_factory
from miclip.models.files import ClipSpec, TargetSpec, read_spec, read_state, write_model
from miclip.models.labels import read_labels
from miclip.models.loaders import HUB, as_target, build_target, load_foreign
from miclip.models.sae import SparseAutoencoder
from miclip.models.sources import Given
from miclip.models.target import TargetModel
from miclip.names import check_id
from miclip.settings import settings


class Catalogue:
    """The models that may be loaded.

    Args:
        bundled: Bundles; those of ``settings().bundles`` by default.
        imported: Folder of imported models; under ``settings().data_dir`` by default.
        file: Catalogue file; ``settings().catalogue`` by default.

    Raises:
        BadArtefact: the catalogue file is missing or broken.
        InvalidInput: it holds an id that is no resource id.
    """

    def __init__(
        self, bundled: Sequence[Bundle] | None = None, imported: Path | None = None, file: Path | None = None
    ) -> None:
        self._bundles = bundles() if bundled is None else tuple(bundled)
        self._imported = imported or settings().data_dir / "models"
        self._folders = (*(bundle.models for bundle in self._bundles), self._imported)
        self._entries = read_entries(file or settings().catalogue)
        self._cards: dict[str, ModelCard] = {}

    def model_ids(self) -> list[str]:
        """Return the ids of all models: the bundles' first, each source sorted."""
        found = [path.stem for folder in self._folders for path in sorted(folder.glob("*.json")) if _is_target(path)]
        return list(dict.fromkeys([*found, *sorted(self._entries)]))

    def load_target(self, model: str, device: str | None = None) -> TargetModel:
        """Load a target model.

        Args:
            model: Id of a model.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, …; ``settings().device`` by default.

        Raises:
            NotFound: no such model; the text lists those there are.
            BadArtefact: its files are missing, broken, or do not belong together.
        """
        self.check_known(model)
        return self._with_dictionaries(self._load(model, pick_device(device)))

    def card(self, model: str) -> ModelCard:
        """Return what is known of a model without loading it.

        The card lies beside the imported models. One that is missing, or was made from other files, is made anew: that
        loads the model once, into the memory of the CPU.

        Raises:
            NotFound: no such model.
            BadArtefact: its files are missing, broken, or do not belong together.
        """
        self.check_known(model)
        source = self._source_sha256(model)
        kept = self._cards.get(model)
        card = kept if kept and kept.source_sha256 == source else read_card(self._card_path(model), source)
        if card is None:
            return self.save_card(self.load_target(model, "cpu"))
        self._cards[model] = card
        return card

    def save_card(self, target: TargetModel) -> ModelCard:
        """Write down what a loaded model of this catalogue is; returns its card."""
        card = make_card(target, self._source_sha256(target.name))
        if card != self._cards.get(target.name):
            self._cards[target.name] = card
            with suppress(OSError):  # a data directory that is read-only; the card is kept in memory
                write_card(self._card_path(target.name), card)
        return card

    def check_known(self, model: str) -> None:
        """Raise NotFound, with the models that there are, unless ``model`` is one."""
        ids = self.model_ids()
        if model not in ids:
            shown = model if len(model) <= 80 else model[:77] + "..."
            allowed = ", ".join(ids)
            raise NotFound(f"There is no model {shown!r}; the models are {allowed}.", field="model", allowed=allowed)

    def dictionaries(self, model: str) -> list[tuple[DictionaryManifest, SparseAutoencoder]]:
        """Return the dictionaries of a model: the bundles' first, each by id; raises BadArtefact."""
        return [pair for folder in self._folders for pair in read_dictionaries(folder, model)]

    def load_clip(self, device: str | None = None) -> Clip:
        """Load the CLIP of the shared space: ``settings().clip``, or the first bundle's when that is empty.

        Raises:
            BadArtefact: the bundle's files are missing or broken.
            InvalidInput: ``settings().clip`` or its weights cannot be used; or it is empty, and no bundle has a CLIP.
        """
        where = pick_device(device)
        if settings().clip:
            return load_open_clip(settings().clip, settings().clip_weights, where)
        clips = self.bundled_clips()
        if not clips:
            raise InvalidInput("No bundle has a CLIP. Set MICLIP_CLIP and MICLIP_CLIP_WEIGHTS.", field="MICLIP_CLIP")
        return self.load_bundled_clip(clips[0], where)

    def bundled_clips(self) -> list[Bundle]:
        """Return the bundles that have a CLIP, in order."""
        return [bundle for bundle in self._bundles if bundle.manifest.clip]

    def load_bundled_clip(self, bundle: Bundle, device: str | None = None) -> Clip:
        """Load the CLIP of a bundle that has one; raises BadArtefact where its files are missing or broken."""
        spec = read_spec(bundle.models, bundle.manifest.clip, ClipSpec)
        state = read_state(bundle.models, bundle.manifest.clip, spec)
        where = pick_device(device)
        return build_clip(spec.config, spec.preprocessing, state, text_sha256=spec.text_sha256, device=where)

    def import_model(
        self,
        model: str,
        source: str,
        weights: str = "",
        *,
        labels: Sequence[str] = (),
        layers: Sequence[str] = (),
        size: int = 0,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> TargetModel:
        """Read a model, torch checkpoint or not, and keep it as safetensors under an id, ready to be served.

        A source ``file.py:factory`` runs the user's code: never pass on one that a request names.

        Args:
            model: New id, for example ``"resnet50"``.
            source: As for ``miclip.models.loaders.load_foreign``.
            weights: Local file, or ``"hub"``; may be empty where the source has weights of its own.
            labels: Names of the outputs; this and what follows as in ``miclip.models.sources.Given``.
            layers: Module paths.
            size: Edge of the input in pixels.
            mean: Per channel.
            std: Per channel.

        Returns:
            The model, on the CPU.

        Raises:
            AlreadyExists: the id is taken.
            InvalidInput: the id, source or weights cannot be used.
        """
        check_id(model, field="model")
        if model in self.model_ids():
            raise AlreadyExists(f"There is a model {model!r} already; choose another id.", field="model")
        spec, module = load_foreign(source, weights, Given(labels, layers, size, mean, std))
        target = as_target(model, spec, module)
        write_model(self._imported, model, spec, module.state_dict())
        self.save_card(target)
        return target

    def remove_model(self, model: str, *, force: bool = False) -> None:
        """Delete an imported model: its description, weights, dictionaries and card. Its atlases stay.

        Args:
            model: Its id.
            force: Also one whose atlas is active, which then is so no longer.

        Raises:
            NotFound: no such model.
            InvalidInput: it comes with a bundle or from the catalogue file, or its atlas is active.
        """
        self.check_known(model)
        if model not in self._imported_ids():
            text = f"Model {model!r} is not yours to remove: it comes with a bundle or stands in the catalogue file."
            raise InvalidInput(text, field="name", allowed=", ".join(self._imported_ids()) or "imported models")
        with suppress(NotAligned):
            if not force:
                atlas = active_atlas_id(model)[:12]
                text = f"Model {model!r} has an active atlas, {atlas}. Use --force to remove the model all the same."
                raise InvalidInput(text, field="name")
            deactivate_atlas(model)
        (self._imported / f"{model}.json").unlink()  # first: without it there is no model
        for path in (self._imported / f"{model}.safetensors", self._card_path(model)):
            path.unlink(missing_ok=True)
        shutil.rmtree(dictionary_folder(self._imported, model), ignore_errors=True)

    def spec(self, model: str) -> TargetSpec | None:
        """Return how a model is built; None for one of the catalogue file.

        Raises:
            NotFound: no such model.
            BadArtefact: its description is broken.
        """
        self.check_known(model)
        folder = next((folder for folder in self._folders if (folder / f"{model}.json").is_file()), None)
        return read_spec(folder, model, TargetSpec) if folder else None

    def entry(self, model: str) -> Entry:
        """Return what the catalogue file says of a model; raises NotFound."""
        self.check_known(model)
        return self._entries[model]

    def origin(self, model: str) -> Literal["bundle", "imported", "catalogue"]:
        """Return which source knows a model; raises NotFound."""
        self.check_known(model)
        if model in self._imported_ids():
            return "imported"
        return "bundle" if any((bundle.models / f"{model}.json").is_file() for bundle in self._bundles) else "catalogue"

    def _imported_ids(self) -> list[str]:
        others = {path.stem for bundle in self._bundles for path in bundle.models.glob("*.json")}
        return [path.stem for path in sorted(self._imported.glob("*.json")) if path.stem not in others]

    def _card_path(self, model: str) -> Path:
        return self._imported.parent / "cards" / f"{model}.json"

    def _source_sha256(self, model: str) -> str:
        """Hash what says which weights, labels, layers and dictionaries a model has; reads no weights."""
        digest = hashlib.sha256()
        specs = [folder / f"{model}.json" for folder in self._folders]
        spec = next((path for path in specs if path.is_file()), None)
        if spec is not None:
            digest.update(spec.read_bytes())
        elif model in self._entries:
            digest.update(entry_state(self._entries[model]).encode())
        for folder in self._folders:
            for path in sorted(dictionary_folder(folder, model).glob(f"*/{DICTIONARY_MANIFEST}")):
                digest.update(path.parent.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def _load(self, model: str, device: str) -> TargetModel:
        for folder in self._folders:
            if (folder / f"{model}.json").is_file():
                spec = read_spec(folder, model, TargetSpec)
                if spec.architecture.startswith("factory/"):
                    _check_own(folder / f"{model}.json", imported=folder == self._imported)
                return build_target(model, spec, read_state(folder, model, spec), device)
        return self._load_entry(model, self._entries[model], device)

    def _with_dictionaries(self, target: TargetModel) -> TargetModel:
        found = self.dictionaries(target.name)
        for manifest, sae in found:
            if manifest.weights_sha256 != target.weights_sha256:
                text = f"Dictionary {sae.layer!r} was made for other weights of model {target.name!r}; train it again."
                raise BadArtefact(text)
        return target.with_dictionaries([sae for _, sae in found]) if found else target

    def _load_entry(self, model: str, entry: Entry, device: str) -> TargetModel:
        if not entry.weights.startswith(HUB) and not entry.weights.endswith(".safetensors"):
            text = f"Model {model!r} has weights that are not safetensors; import it with `miclip align` first."
            raise InvalidInput(text, field="weights", allowed="a safetensors file or 'hub'")
        labels = read_labels(entry.labels) if entry.labels else ()
        if is_factory(entry.source):
            text = f"Model {model!r} is made by code; import it with `miclip align` instead of the catalogue file."
            raise InvalidInput(text, field="source", allowed="a source that is no file.py:factory")
        spec, module = load_foreign(entry.source, entry.weights, Given(labels, entry.layers))
        return as_target(model, spec, module, device)


def model_ids() -> list[str]:
    """Return the ids of all models of the default catalogue."""
    return Catalogue().model_ids()


def check_known(model: str) -> None:
    """Raise NotFound unless the default catalogue knows ``model``."""
    Catalogue().check_known(model)


def load_target(model: str, device: str | None = None) -> TargetModel:
    """Load a target model of the default catalogue; see ``Catalogue.load_target``."""
    return Catalogue().load_target(model, device)


def load_clip(device: str | None = None) -> Clip:
    """Load the CLIP of the shared space; see ``Catalogue.load_clip``."""
    return Catalogue().load_clip(device)


def pick_device(device: str | None = None) -> str:
    """Resolve ``"auto"`` (and ``None``, which means ``settings().device``) to ``"cuda"`` where there is one.

    Raises:
        InvalidInput: the device is unknown, or CUDA is asked for and not there.
    """
    wanted = device or settings().device
    available = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if available else "cpu"
    if wanted == "cpu" or (available and re.fullmatch(r"cuda(:\d+)?", wanted)):
        return wanted
    allowed = "auto, cpu, cuda, cuda:N" if available else "auto, cpu"
    raise InvalidInput(f"device: {wanted!r} is not available here; use {allowed}.", field="device", allowed=allowed)


def _check_own(spec: Path, *, imported: bool) -> None:
    """Refuse to run code that this user's command line did not import; raises BadArtefact.

    A bundle may come from anyone; so may a description that another user wrote.
    """
    if not imported or spec.stat().st_uid not in (os.getuid(), 0):
        text = f"Model {spec.stem!r} is made by code that this user did not import. Import it with `miclip align`."
        raise BadArtefact(text)


def _is_target(path: Path) -> bool:
    try:
        return "architecture" in json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
