"""The shipped demo world holds what its manifest says."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
import torch

from miclip.atlas import active_atlas_id, list_atlases, verify
from miclip.bundles.augment import evaluation_views
from miclip.catalogue import Catalogue
from miclip.demo import assets
from miclip.demo.assets import DEMO
from miclip.demo.concepts import CLASSES, HELD_OUT_STYLE, STYLES, TRAIN_STYLES, VALIDATION_STYLE, slugify
from miclip.demo.probe import demo_probe, held_out
from miclip.models.target import LOGITS, TargetModel
from tests.names import RESNET, VIT
from tools.demo_world.train_target import top1

TARGETS = (RESNET, VIT)


@lru_cache
def _target(name: str) -> TargetModel:
    return Catalogue([DEMO]).load_target(name, "cpu")


@lru_cache
def _manifest() -> dict:  # type: ignore[type-arg]
    return json.loads((assets.ASSETS / "manifest.json").read_text(encoding="utf-8"))


def test_the_styles_of_training_validation_and_evaluation_are_apart() -> None:
    assert len(set(STYLES)) == len(STYLES)
    assert HELD_OUT_STYLE not in TRAIN_STYLES
    assert VALIDATION_STYLE not in TRAIN_STYLES
    assert {name.split("/")[0] for name in demo_probe().names} == set(TRAIN_STYLES)


def test_there_are_between_100_and_200_classes_each_drawn_in_every_style() -> None:
    assert 100 <= len(set(CLASSES)) == len(CLASSES) <= 200
    for style in STYLES:
        assert sorted(p.stem for p in (assets.IMAGES / style).iterdir()) == sorted(map(slugify, CLASSES))


def test_the_assets_take_at_most_30_megabytes_and_hold_no_pickle() -> None:
    files = [path for path in assets.ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".webp", ".safetensors", ".json", ".txt", ".md"}


@pytest.mark.parametrize("name", TARGETS)
def test_the_held_out_accuracy_is_the_manifests(name: str) -> None:
    views = held_out()
    images = torch.stack(views.load(0, len(views.names))).float() / 255
    measured = 100 * top1(_target(name).module, images, views.labels)
    assert measured == pytest.approx(_manifest()["targets"][name]["held_out_top1"], abs=0.5)


def test_one_target_reaches_75_percent_on_the_held_out_style_and_the_other_55() -> None:
    weaker, better = sorted(_manifest()["targets"][name]["held_out_top1"] for name in TARGETS)
    assert better >= 75
    assert weaker >= 55


@pytest.mark.parametrize("name", TARGETS)
def test_every_class_is_predicted_on_the_probe_set_and_every_layer_is_in_the_atlas(name: str) -> None:
    atlas_id = active_atlas_id(name)
    manifest = verify(assets.ATLASES / atlas_id)
    assert manifest.weights_sha256 == _target(name).weights_sha256
    assert [layer.name for layer in manifest.layers] == list(_target(name).layers)
    assert LOGITS in _target(name).layers
    assert len(manifest.layers) >= 4
    assert _manifest()["targets"][name]["classes_predicted_on_probe_set"] == len(CLASSES)
    assert list_atlases()[atlas_id] == manifest


def test_views_are_the_same_at_every_load_and_differ_by_row_and_seed() -> None:
    probe = demo_probe()
    first, again = probe.load(3, 5), demo_probe().load(4, 5)
    assert torch.equal(first[1], again[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(demo_probe(1).load(4, 5)[0], again[0])
    assert demo_probe(1).sha256 != probe.sha256


def test_a_transparent_drawing_shows_its_ground_and_no_hidden_colour() -> None:
    hidden = torch.zeros(64, 4, 96, 96, dtype=torch.uint8)
    hidden[:, 0] = 255  # red that alpha hides
    views = evaluation_views(64)(hidden, torch.Generator().manual_seed(0))
    white = (views == 1).flatten(1).all(dim=1)
    assert 0.1 < white.float().mean() < 0.6, "about a third of the grounds are white"
    assert np.isclose(views[:, 0].mean(), views[:, 1].mean(), atol=0.05), "no red shows through"
