"""The factory of the demo's bundle writes what the shipped bundle holds."""

from __future__ import annotations

import random

from miclip.bundles.manifest import read_manifest
from miclip.demo import assets
from miclip.demo.concepts import CLASSES, slugify
from miclip.models.files import ClipSpec, TargetSpec, read_spec
from tools.demo_world.build import CLIP_NAME, TARGETS, bundle_manifest
from tools.demo_world.clip_spec import demo_clip_spec
from tools.demo_world.concepts import Concept
from tools.demo_world.train_clip import PARAPHRASES, paraphrases


def test_the_shipped_manifest_is_the_factorys() -> None:
    assert read_manifest(assets.ASSETS) == bundle_manifest({name: slugify(name) for name in CLASSES})


def test_the_shipped_cards_are_the_factorys() -> None:
    for name, recipe in TARGETS.items():
        spec = read_spec(assets.MODELS, name, TargetSpec)
        assert (spec.architecture, spec.parameters) == (recipe.architecture, recipe.parameters)
    clip = read_spec(assets.MODELS, CLIP_NAME, ClipSpec)
    assert clip == demo_clip_spec().model_copy(update={"weights_file_sha256": clip.weights_file_sha256})


def test_paraphrases_name_the_concept_and_its_keywords() -> None:
    concept = Concept("fire engine", "fire-engine", "travel-places", ("truck", "engine"), {})
    wordings = paraphrases(concept, random.Random(0))
    assert len(wordings) == PARAPHRASES
    assert wordings.count("fire engine") == 3
    assert any("truck" in wording for wording in wordings)
