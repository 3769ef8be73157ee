"""``python -m tools.demo_world``: the whole demo world from published packages, in resumable steps.

Every step leaves its result in the build directory and is skipped when that is there, so an interrupted build goes on.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miclip import progress
from miclip.alignment import AlignmentConfig, align_model
from miclip.bundles import Bundle, BundleImages, BundleManifest, ImageSet
from miclip.bundles.augment import evaluation_views
from miclip.bundles.manifest import MANIFEST
from miclip.catalogue import Catalogue
from miclip.demo import assets
from miclip.demo.concepts import CLASSES, HELD_OUT_STYLE, STYLES, TRAIN_STYLES, VALIDATION_STYLE
from miclip.demo.probe import demo_probe, dictionary_probe, held_out
from miclip.dictionaries import SaeRecipe, train_dictionary
from miclip.files import replacing
from miclip.models import _torchvision  # noqa: F401  (before timm)
from miclip.models.clip import build_clip
from miclip.models.dictionaries import dictionary_folder
from miclip.models.families import build_module
from miclip.models.files import TargetSpec, clip_state, write_model
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import Layout
from miclip.progress import Progress, Report, StageKind, about, silent
from tools.demo_world.clip_spec import demo_clip_spec
from tools.demo_world.concepts import Concept, load_concepts
from tools.demo_world.fetch import fetch_packages, imagenet_lite0_weights
from tools.demo_world.fresh import build_fresh_queries
from tools.demo_world.queries import build_nouns, build_queries
from tools.demo_world.render import encode_webp, render_style
from tools.demo_world.train_clip import paraphrases, retrieval_accuracy, train_image_tower
from tools.demo_world.train_target import IMAGE_SIZE, Drawings, Stage, top1, train_target


@dataclass(frozen=True)
class TargetRecipe:
    """How a demo target model is built and trained."""

    architecture: str
    parameters: dict[str, Any]
    layers: tuple[str, ...]
    stages: tuple[Stage, ...]
    teacher: str = ""


TARGETS = {
    "emoji-resnet": TargetRecipe(
        "miclip/resnet", {"blocks": [1, 1, 1, 1], "channels": [32, 64, 128, 256], "stem_width": 16},
        ("layer1", "layer2", "layer3", "layer4"), (Stage(600_000, 2e-3), Stage(150_000, 1e-3))
    ),
    "emoji-vit": TargetRecipe(
        "miclip/vit", {"size": IMAGE_SIZE, "width": 128, "depth": 4, "heads": 4, "mlp_ratio": 3.0},
        ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm"),
        (Stage(260_000, 1.5e-3), Stage(80_000, 8e-4), Stage(300_000, 1.5e-3)), "emoji-resnet",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DictionaryRecipe:
    """How a demo dictionary is trained."""

    layer: str
    features: int
    k: int
    views: int

    @property
    def name(self) -> str:
        """Its id."""
        return f"topk-{self.features}"


DICTIONARIES = {
    "emoji-resnet": (DictionaryRecipe("layer3", 256, 16, 16), DictionaryRecipe("layer4", 512, 32, 16)),
    "emoji-vit": (DictionaryRecipe("blocks.2", 256, 16, 8), DictionaryRecipe("norm", 512, 16, 8)),
}
CLIP_NAME = "emoji-clip"
CLIP_IMAGES = 300_000
ATLAS_ROWS = 512
"""Probe rows that the shipped atlases keep, one view of most images: the assets stay below 30 MB."""


class Build:
    """The build of the demo world.

    Args:
        directory: Keeps packages, pixels and checkpoints; may be deleted afterwards.
        output: Receives the assets.
        report: Told of progress.
    """

    def __init__(self, directory: Path, output: Path = assets.ASSETS, report: Report = silent) -> None:
        self._directory, self._output, self._report = directory, output, report
        self._packages = directory / "packages"

    def run(self) -> dict[str, Any]:
        """Run every step that is not done; returns the manifest, which is also written to ``manifest.json``."""
        fetch_packages(self._packages)
        concepts = load_concepts(self._packages)
        for index, style in enumerate(STYLES):
            self._render(style, concepts)
            self._report(Progress(progress.Stage(StageKind.DRAWINGS), index + 1, len(STYLES)))
        self._write_images(concepts)
        self._write_manifest(concepts)
        self._write_queries()
        for name, recipe in TARGETS.items():
            self._target(name, recipe, concepts)
        self._clip(concepts)
        for name in DICTIONARIES:
            self._dictionaries(name)
        self._align()
        return self._manifest(concepts)

    def realign(self) -> dict[str, Any]:
        """Align the models that are there, and nothing else; returns the manifest."""
        self._align()
        path = self._output / "manifest.json"
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest["bytes"] = self._bytes()
        path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return manifest

    def drawings(self, styles: tuple[str, ...], concepts: list[Concept], *, classes: bool) -> Drawings:
        """Return the rendered drawings of some styles, labelled by concept, or by class and of classes alone."""
        index = {name: label for label, name in enumerate(CLASSES)}
        pixels, labels = [], []
        for style in styles:
            saved = load_file(self._directory / f"{style}.safetensors")
            for row, concept in enumerate(saved["concepts"].tolist()):
                label = index.get(concepts[concept].name) if classes else concept
                if label is not None:
                    pixels.append(saved["pixels"][row])
                    labels.append(label)
        return Drawings(torch.stack(pixels), torch.tensor(labels))

    def _render(self, style: str, concepts: list[Concept]) -> None:
        path = self._directory / f"{style}.safetensors"
        if not path.exists():
            rows, pixels = render_style(self._packages, style, concepts)
            channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            _save({"concepts": torch.tensor(rows), "pixels": channels_first}, path)

    def _write_images(self, concepts: list[Concept]) -> None:
        slugs = [next(c.slug for c in concepts if c.name == name) for name in CLASSES]
        for style in STYLES:
            folder = self._output / "images" / style
            if folder.is_dir() and len(list(folder.iterdir())) == len(CLASSES):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            found = self.drawings((style,), concepts, classes=True)
            for pixels, label in zip(found.pixels, found.labels.tolist(), strict=True):
                (folder / f"{slugs[label]}.webp").write_bytes(encode_webp(pixels.permute(1, 2, 0).numpy()))

    def _write_manifest(self, concepts: list[Concept]) -> None:
        files = {name: next(c.slug for c in concepts if c.name == name) for name in CLASSES}
        manifest = bundle_manifest(files)
        (self._output / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def _catalogue(self) -> Catalogue:
        return Catalogue([Bundle(self._output)])

    def _write_queries(self) -> None:
        files = {"queries.json": build_queries, "fresh_queries.json": build_fresh_queries}
        for file, build_kinds in files.items():
            text = json.dumps(build_kinds(self._packages), indent=1, ensure_ascii=False)
            (self._output / file).write_text(text + "\n", encoding="utf-8")
        nouns = "\n".join(build_nouns(self._packages))
        (self._output / "vocabularies" / "nouns.txt").write_text(nouns + "\n", encoding="utf-8")

    def _target(self, name: str, recipe: TargetRecipe, concepts: list[Concept]) -> None:
        trained = self._directory / f"{name}.safetensors"
        if not trained.exists():
            model = train_target(
                partial(build_module, recipe.architecture, parameters=recipe.parameters),
                self.drawings(TRAIN_STYLES, concepts, classes=False),
                self.drawings(TRAIN_STYLES, concepts, classes=True), recipe.stages,
                self._directory / f"{name}.checkpoint",
                about(name, self._report), teacher=self._teacher(recipe),
            )  # fmt: skip
            _save(model.state_dict(), trained)
        spec = TargetSpec(
            architecture=recipe.architecture, parameters=recipe.parameters, labels=CLASSES, layers=recipe.layers,
            preprocessing=Preprocessing(IMAGE_SIZE, resize="squash", interpolation="bilinear"), layout=Layout(),
        )  # fmt: skip
        write_model(self._output / "models", name, spec, load_file(trained), half=True)

    def _teacher(self, recipe: TargetRecipe) -> nn.Module | None:
        return self._catalogue().load_target(recipe.teacher, "cpu").module if recipe.teacher else None

    def _clip(self, concepts: list[Concept]) -> None:
        trained = self._directory / f"{CLIP_NAME}.safetensors"
        spec = demo_clip_spec()
        if not trained.exists():
            tower = initial_image_tower(spec.config)
            texts = self._paraphrases(concepts, tower)
            scale = train_image_tower(
                tower, self.drawings(TRAIN_STYLES, concepts, classes=False), texts, CLIP_IMAGES,
                self._directory / f"{CLIP_NAME}.checkpoint", self._report,
            )  # fmt: skip
            _save(clip_state(tower, scale), trained)
        write_model(self._output / "models", CLIP_NAME, spec, load_file(trained), half=True)

    def _paraphrases(self, concepts: list[Concept], tower: nn.Module) -> Tensor:
        spec = demo_clip_spec()
        clip = build_clip(spec.config, spec.preprocessing, clip_state(tower, 0.0), text_sha256=spec.text_sha256)
        rng = random.Random(0)
        wordings = [paraphrases(concept, rng) for concept in concepts]
        flat = clip.embed_texts([text for texts in wordings for text in texts])
        return torch.from_numpy(flat).view(len(concepts), -1, clip.dim)

    def _dictionaries(self, model: str) -> None:
        trained = dictionary_folder(self._directory / "dictionaries", model)
        for recipe in DICTIONARIES[model]:
            if not (trained / recipe.name).is_dir():
                train_dictionary(
                    self._catalogue().load_target(model, "cpu"), recipe.layer,
                    dictionary_probe(recipe.views), recipe.name,
                    SaeRecipe(features=recipe.features, k=recipe.k, steps=4000, batch=2048),
                    models=self._directory / "dictionaries", store=self._directory / "stores",
                    report=about(f"{model} {recipe.layer}", self._report),
                )  # fmt: skip
        kept = dictionary_folder(self._output / "models", model)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(trained, kept)

    def _align(self) -> None:
        catalogue = self._catalogue()
        clip = catalogue.load_clip("cpu")
        shutil.rmtree(self._output / "atlases", ignore_errors=True)
        for name in TARGETS:
            align_model(
                catalogue.load_target(name, "cpu"), clip, demo_probe(), AlignmentConfig(probe_rows=ATLAS_ROWS),
                store=self._directory / "stores", atlas_root=self._output / "atlases",
                report=about(name, self._report),
            )  # fmt: skip

    def _manifest(self, concepts: list[Concept]) -> dict[str, Any]:
        catalogue = self._catalogue()
        manifest = {
            "classes": len(CLASSES),
            "concepts": len(concepts),
            "styles": {"train": list(TRAIN_STYLES), "validation": VALIDATION_STYLE, "held_out": HELD_OUT_STYLE},
            "targets": {name: self._target_figures(catalogue, name) for name in TARGETS},
            "clip": self._clip_figures(catalogue, concepts),
            "bytes": self._bytes(),
        }
        (self._output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return manifest

    def _target_figures(self, catalogue: Catalogue, name: str) -> dict[str, Any]:
        model = catalogue.load_target(name, "cpu")
        figures: dict[str, Any] = {"parameters": sum(p.numel() for p in model.module.parameters())}
        for kind, style in (("validation", VALIDATION_STYLE), ("held_out", HELD_OUT_STYLE)):
            views = held_out(style)
            images = torch.stack(views.load(0, len(views.names))).float() / 255
            figures[f"{kind}_top1"] = round(100 * top1(model.module, images, views.labels), 2)
        probe = demo_probe()
        images = torch.stack([model.preprocess(image) for image in probe.load(0, len(probe.names))])
        predicted = torch.cat([model.forward(part).logits.argmax(dim=1) for part in images.split(128)])
        figures["classes_predicted_on_probe_set"] = len(predicted.unique())
        return figures

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self._output.rglob("*") if path.is_file())

    def _clip_figures(self, catalogue: Catalogue, concepts: list[Concept]) -> dict[str, Any]:
        clip = catalogue.load_clip("cpu")
        names = torch.from_numpy(clip.embed_texts([concept.name for concept in concepts]))
        generator, views = torch.Generator().manual_seed(1), evaluation_views(IMAGE_SIZE)
        figures: dict[str, Any] = {}
        for kind, style in (("validation", VALIDATION_STYLE), ("held_out", HELD_OUT_STYLE)):
            data = self.drawings((style,), concepts, classes=False)
            images = views(data.pixels, generator)
            tower = clip.model.visual
            first, fifth = retrieval_accuracy(tower, images, data.labels, names, (1, 5))  # type: ignore[arg-type]
            figures[f"{kind}_top1_of_{len(concepts)}"] = round(100 * first, 2)
            figures[f"{kind}_top5_of_{len(concepts)}"] = round(100 * fifth, 2)
        return figures


def bundle_manifest(files: dict[str, str]) -> BundleManifest:
    """Return what the demo's ``bundle.json`` says, with the file stem of every class."""
    return BundleManifest(
        name="demo",
        clip=CLIP_NAME,
        vocabularies=("emoji",),
        images=BundleImages(
            licence="Drawings under Apache-2.0, MIT and CC-BY-4.0; see NOTICE.",
            size=IMAGE_SIZE,
            files=files,
            probe=ImageSet(name="demo", styles=TRAIN_STYLES, views=4),
            held_out=ImageSet(name=f"held-out-{HELD_OUT_STYLE}", styles=(HELD_OUT_STYLE,), views=16, seed=7_919),
        ),
    )


def initial_image_tower(config: dict[str, Any]) -> nn.Module:
    """Return the image tower with ImageNet weights in its trunk.

    The checkpoint's 296 tensors map one to one, in order, onto timm's EfficientNet-Lite0.
    """
    import timm
    from open_clip.timm_model import TimmModel

    vision = config["vision_cfg"]
    torch.manual_seed(0)
    tower: nn.Module = TimmModel(
        vision["timm_model_name"], config["embed_dim"], image_size=vision["image_size"], pool=vision["timm_pool"],
        proj=vision["timm_proj"],
    )  # fmt: skip
    saved = torch.load(imagenet_lite0_weights(), map_location="cpu", weights_only=True)
    names = list(timm.create_model(vision["timm_model_name"]).state_dict())
    state = dict(zip(names, saved.values(), strict=True))
    tower.trunk.load_state_dict({k: v for k, v in state.items() if not k.startswith("classifier.")})  # type: ignore[union-attr]
    return tower


def build(directory: Path, report: Report = silent) -> dict[str, Any]:
    """Build the demo world into the package's assets; see :class:`Build`."""
    directory.mkdir(parents=True, exist_ok=True)
    return Build(directory, report=report).run()


def realign(directory: Path, report: Report = silent) -> dict[str, Any]:
    """Make the atlases of the package's assets anew, of the models that are there."""
    directory.mkdir(parents=True, exist_ok=True)
    return Build(directory, report=report).realign()


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
