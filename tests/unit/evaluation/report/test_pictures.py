"""The report's pictures of a shipped model are those of its units, and its experiments are real."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from miclip.cli.report import exhibits
from miclip.demo.queries import FRESH_KINDS, KINDS
from miclip.evaluation.queries import Query
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.experiments import chosen, experiments, rows
from miclip.evaluation.report.gallery import IMAGES, MAPS, SILENT, SURE, Shown, collect
from miclip.evaluation.report.plane import plane
from miclip.evaluation.report.provenance import provenance
from miclip.evaluation.report.templates import fill, macro
from miclip.evaluation.result import Result, Target
from miclip.pictures.spatial import overlay, unit_maps
from miclip.steering.edits import Edit, Op, compile_edits

pytestmark = pytest.mark.slow

MODELS = ("emoji-resnet", "emoji-vit")
LAYERS = {"emoji-resnet": "layer3", "emoji-vit": "blocks.2"}


@pytest.fixture(scope="module")
def shown() -> dict[str, Exhibit]:
    return {exhibit.model.name: exhibit for exhibit in exhibits([*MODELS, "unheard-of"])}


def pictures(page: str) -> list[np.ndarray]:
    data = [base64.b64decode(found) for found in re.findall(r'src="data:image/webp;base64,([^"]+)"', page)]
    opened = [Image.open(io.BytesIO(one)) for one in data]
    return [np.asarray(image.convert("RGB"), float) for image in opened]


def cards(units: list[Shown]) -> list[str]:
    return macro("units.html.jinja", "gallery", units, MAPS).split("<article")[1:]


def test_a_target_that_is_not_of_the_demo_has_no_exhibit(shown: dict[str, Exhibit]) -> None:
    assert tuple(shown) == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_each_card_shows_the_units_top_images_and_its_maps_over_them(shown: dict[str, Exhibit], name: str) -> None:
    exhibit, layer = shown[name], LAYERS[name]
    units = collect(exhibit, layer)
    made_cards = cards(units)
    assert len(units) == len(made_cards) == SURE + SILENT
    assert made_cards == cards(collect(exhibit, layer))
    for unit, card in list(zip(units, made_cards, strict=True))[::4]:
        number = unit.description.unit
        assert f"<code>{layer}/{number}</code>" in card and unit.description.concepts[0].concept in card
        assert ("abstains</span>" in card) == unit.description.abstained
        made = pictures(card)
        top, maps = made[:MAPS] + made[2 * MAPS :], made[MAPS : 2 * MAPS]
        rows = exhibit.searcher.atlas.layer(layer).top_images[number][:IMAGES]
        wanted = [image.permute(1, 2, 0).numpy() for image in exhibit.probe.load([int(row) for row in rows])]
        nearest = [int(np.argmin([np.abs(one - other).mean() for other in wanted])) for one in top]
        assert nearest == list(range(IMAGES))
        found = unit_maps(exhibit.model, exhibit.probe.load(rows[:MAPS].tolist()), layer, [number] * MAPS)
        drawn = [overlay(one).astype(float) for one in found]
        assert [int(np.argmin([np.abs(one - other).mean() for other in drawn])) for one in maps] == list(range(MAPS))


def test_a_label_that_the_unit_drives_most_is_marked(shown: dict[str, Exhibit]) -> None:
    exhibit = shown["emoji-resnet"]
    atlas = exhibit.searcher.atlas
    layer = atlas.layer("layer3")
    predicted, attributions = np.asarray(atlas.predicted), np.asarray(layer.attributions, np.float64)
    units = collect(exhibit, "layer3")
    for unit, card in zip(units, cards(units), strict=True):
        column = attributions[:, unit.description.unit]
        driven = [column[predicted == k].mean() if (predicted == k).any() else 0 for k in range(128)]
        best = {exhibit.model.labels[k] for k in np.argsort(driven)[-3:]}
        label = unit.description.concepts[0].concept
        assert ("<mark>" in card) == (label in best)


@pytest.mark.parametrize("name", MODELS)
def test_the_accuracies_of_an_experiment_are_those_of_the_edited_model(shown: dict[str, Exhibit], name: str) -> None:
    exhibit, layer = shown[name], {"emoji-resnet": "layer4", "emoji-vit": "norm"}[name]
    examples = experiments(exhibit, layer)
    assert {example.kind for example in examples} == {"names", *KINDS, *FRESH_KINDS}
    example = max(examples, key=lambda one: one.doubled.target - one.removed.target)
    own = torch.isin(exhibit.labels, torch.tensor(example.query.classes)).nonzero().flatten().tolist()
    images = torch.stack([exhibit.model.preprocess(exhibit.held_out.load(row, row + 1)[0]) for row in own])
    accuracy = []
    for scale in (1.0, 2.0, 0.0):
        edits = [Edit(layer, unit.unit, Op.SCALE, scale) for unit in example.units]
        batch = compile_edits([edits] * len(own), exhibit.model.layer_sizes)
        right = exhibit.model.forward(images, edits=batch).logits.argmax(dim=1) == exhibit.labels[own]
        accuracy.append(100 * right.float().mean().item())
    before = example.before
    claimed = [before, before + example.doubled.target, before + example.removed.target]
    assert claimed == pytest.approx(accuracy, abs=100 / len(own) + 0.01)
    assert accuracy[1] > accuracy[2]
    table = macro("units.html.jinja", "examples", rows(exhibit, [example]))
    assert all(f"{value:.0f} %" in table for value in claimed) and f"“{example.query.text}”" in table


def test_examples_are_spread_over_the_queries_by_rule() -> None:
    asked = chosen({"synonyms": [Query(str(k), (k,)) for k in range(10)], "keywords": []}, [str(k) for k in range(9)])
    assert [(kind, query.text) for kind, query in asked] == [
        ("names", "0"), ("names", "3"), ("names", "6"), ("synonyms", "0"), ("synonyms", "5")
    ]  # fmt: skip


def test_the_plane_has_a_mark_for_every_unit_and_the_provenance_every_hash(shown: dict[str, Exhibit]) -> None:
    exhibit: Any = shown["emoji-resnet"]
    drawn = macro("charts.html.jinja", "plane", plane(exhibit, "layer3"))
    assert len(re.findall(r"<g><title>layer3/\d+: ", drawn)) == 128
    manifest = exhibit.searcher.atlas.manifest
    target = Target(seeds=1, held_out_top1=0.0, judged_on="", aligned_on="", places=(), unseen=None, cost=None)
    result = Result(methods=(), targets={"emoji-resnet": target})
    said = fill("provenance.html.jinja", provenance=provenance(result, [exhibit]))
    for value in (exhibit.searcher.atlas.atlas_id, manifest.weights_sha256, manifest.clip_id, manifest.probe.sha256):
        assert value in said
