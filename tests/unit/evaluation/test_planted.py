"""A network whose units' concepts are known by construction is labelled, localized and steered right, by every method.

Unit i of the layer "mid" carries class i % 8: in the atlas of ``Recipe``, and in the network below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miclip.atlas import Atlas
from miclip.evaluation.carrying import carried_shares
from miclip.evaluation.intervention import Laboratory, intervene
from miclip.evaluation.judge import Judge
from miclip.evaluation.labelling import label_figures, labellings
from miclip.evaluation.methods import LayerData, Positions, named, rank_units
from miclip.evaluation.queries import Query, class_names
from miclip.evaluation.summary import summarise, verdict
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel
from miclip.retrieval.search import AtlasSearcher

CLASSES, UNITS, PER_CLASS = 8, 40, 5
CONTROLS = named("control")
KNOWING = tuple(name for name in named() if name not in CONTROLS)


class _Planted(nn.Module):
    """Reads class c from row c of the image into units c, c + 8, …; each adds a fifth of its class's logit."""

    def __init__(self) -> None:
        super().__init__()
        self.mid, self.head = nn.Identity(), nn.Linear(UNITS, CLASSES, bias=False)
        self.head.weight.data = torch.eye(CLASSES).repeat(1, PER_CLASS) / PER_CLASS

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mid(x.mean(dim=(1, 3)).repeat(1, PER_CLASS)))


def _laboratory() -> Laboratory:
    model = TargetModel(
        "planted", _Planted(), labels=[str(n) for n in range(CLASSES)], modules=("mid",),
        preprocessing=Preprocessing(CLASSES, resize="squash"),
    )  # fmt: skip
    labels = torch.arange(CLASSES).repeat(6)
    images = torch.full((len(labels), 3, CLASSES, CLASSES), 0.5)
    images[torch.arange(len(labels)), :, labels] = 1.0
    return Laboratory(model, "mid", images, labels, other_views=2)


def _data(atlas: Atlas) -> LayerData:
    """The planted layer; every image's object fills it, and units are as active at all four positions."""
    activations = np.asarray(atlas.layer("mid").activations, np.float32)
    distinct = activations + np.linspace(0, 1e-3, len(activations), dtype=np.float32)[:, None]  # float16 has ties
    maps = torch.from_numpy(distinct)[:, :, None, None].expand(-1, -1, 2, 2)
    labels = torch.from_numpy(np.asarray(atlas.predicted, np.int64))
    positions = Positions(maps, torch.ones(len(maps), 8, 8), labels)
    weight = np.tile(np.eye(CLASSES, dtype=np.float32), (1, PER_CLASS))
    return LayerData(AtlasSearcher(atlas), "mid", 0, weight, lambda: positions)


def _judge() -> Judge:
    """Other images of the planted layer."""
    rng = np.random.default_rng(11)
    labels = np.arange(160) % CLASSES
    driven = (np.arange(UNITS) % CLASSES)[None] == labels[:, None]
    activations = np.maximum(0, 2 * driven + 0.3 * rng.standard_normal(driven.shape)).astype(np.float32)
    attributions = (activations * driven).astype(np.float32)
    return Judge("mid", activations, attributions, labels, labels, CLASSES)


def _rankings(atlas: Atlas) -> dict[str, Any]:
    texts = np.asarray(atlas.label_embeddings, np.float32)
    return rank_units(_data(atlas), class_names(atlas.manifest.labels), texts, PER_CLASS)


def test_every_label_is_right(atlas: Atlas) -> None:
    found = labellings(_data(atlas), _judge())
    assert set(found) >= {"default", "filter", "pattern", "causal", "clip_dissect", "semanticlens", "closed_vocabulary"}
    for name, labelling in found.items():
        assert labelling.concepts.tolist() == [unit % CLASSES for unit in range(UNITS)], name
        figures = label_figures([labelling])
        assert (figures.drives.value, figures.active.value) == (100.0, 100.0), name


def test_the_units_found_carry_the_class_and_those_of_controls_do_not(atlas: Atlas) -> None:
    names, effects = class_names(atlas.manifest.labels), _judge().effects
    carried = {
        name: carried_shares(effects, names, units, PER_CLASS).mean() for name, units in _rankings(atlas).items()
    }
    assert all(carried[name] > 95 for name in KNOWING), carried
    assert max(carried[name] for name in CONTROLS) < 50


def test_every_method_finds_the_units_of_a_class_and_no_control_does(atlas: Atlas) -> None:
    rankings = _rankings(atlas)
    assert list(rankings) == list(named())
    right = {name: (found % CLASSES == np.arange(CLASSES)[:, None]).mean() for name, found in rankings.items()}
    assert all(right[name] == 1.0 for name in KNOWING), right
    assert max(right[name] for name in CONTROLS) < 0.4


def test_a_query_of_two_classes_finds_the_units_of_both_by_what_knows_classes_alone(atlas: Atlas) -> None:
    texts = np.asarray(atlas.label_embeddings, np.float32)
    found = rank_units(_data(atlas), [Query("pet", (0, 1))], texts[:1], 2 * PER_CLASS)
    assert set(found["oracle"][0] % CLASSES) == set(found["mean_activation"][0] % CLASSES) == {0, 1}


def test_removing_what_was_found_removes_the_class_alone(atlas: Atlas) -> None:
    laboratory, targets = _laboratory(), [[label] for label in range(CLASSES)]
    changes = {name: intervene(laboratory, found, targets, PER_CLASS) for name, found in _rankings(atlas).items()}
    removed = {name: summarise([found["scale_0"]], -1) for name, found in changes.items()}
    for name in KNOWING:
        effect = removed[name]
        assert (effect.target.value, effect.others.value, effect.specificity.value) == (-100.0, 0.0, 1.0)
    assert removed["random"].target.value == removed["shuffled"].target.value == 0.0
    standing = verdict({name: [found["scale_0"]] for name, found in changes.items()}, sign=-1)
    assert standing.share_of_oracle is not None
    assert standing.share_of_oracle.value == 1.0


def test_with_permuted_images_every_method_drops_to_the_controls(recipe: Any, tmp_path: Path) -> None:
    """Activations and attributions of other images: what units do says nothing of what is shown any more."""
    permuted = recipe()
    order = np.random.default_rng(3).permutation(permuted.rows)
    for name in ("activations", "attributions"):
        permuted.tensors["mid"][name] = permuted.tensors["mid"][name][order]
    for name in ("pattern", "causal", "encoder"):  # what is learned from them
        shape = permuted.tensors["mid"][name].shape
        permuted.tensors["mid"][name] = np.random.default_rng(4).standard_normal(shape)
    atlas = permuted.open(tmp_path)
    names = labellings(_data(atlas), _judge())
    own = {name: float(np.mean(found.concepts == np.arange(UNITS) % CLASSES)) for name, found in names.items()}
    assert max(own.values()) < 0.4, own
    right = {
        name: (found % CLASSES == np.arange(CLASSES)[:, None]).mean() for name, found in _rankings(atlas).items()
        if name != "weight_x_activation"  # the weights are not permuted
    }  # fmt: skip
    assert max(right.values()) < 0.45, right


@pytest.mark.parametrize("method", KNOWING)
def test_with_shuffled_names_every_method_finds_the_wrong_units(atlas: Atlas, method: str) -> None:
    shuffled = np.roll(np.arange(CLASSES), 3)
    found = _rankings(atlas)[method][shuffled]
    assert (found % CLASSES == np.arange(CLASSES)[:, None]).mean() == 0.0
