"""Promises of a whole alignment: a real network, images and encoders, small enough to align in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miclip.alignment import ActivationStore, AlignmentConfig, Cancelled, EncoderSettings, align_model
from miclip.atlas import LABEL_TENSORS, Atlas
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
PALETTE = torch.tensor(list(COLOURS.values())).float()


class ColourProbe:
    """Noisy squares of five colours: 60 images, two views each."""

    name, views, licence, sha256 = "colours", 2, "none", "c" * 64
    names = tuple(f"{row % 60}#{row // 60}" for row in range(120))

    def load(self, start: int, stop: int) -> list[Tensor]:
        return [self._image(row) for row in range(start, stop)]

    def _image(self, row: int) -> Tensor:
        noise = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(row))
        return (255 * (0.7 * PALETTE[row % 60 % 5][:, None, None] + 0.3 * noise)).to(torch.uint8)


class ColourClip:
    """A space in which a colour's name and its squares lie together: eight random directions of red, green and blue."""

    clip_id, dim = "colours", 8
    _directions = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))

    def embed_texts(self, texts: list[str]) -> Any:
        return self._embed(torch.tensor([COLOURS[text] for text in texts]).float())

    def embed_images(self, images: list[Tensor]) -> Any:
        return self._embed(torch.stack([image.float().mean(dim=(1, 2)) / 255 for image in images]))

    def _embed(self, colours: Tensor) -> Any:
        with_bias = torch.cat([colours, torch.ones(len(colours), 1)], dim=1)
        return nn.functional.normalize(with_bias @ self._directions, dim=1).numpy()


def colour_model() -> TargetModel:
    """A network that tells the colours apart: each logit is 4 on the mean of its own squares and 0 on the others'."""
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        squares = torch.stack(ColourProbe().load(0, 60)).float() / 255
        hidden = network[:4]((squares - 0.5) / 0.5).view(12, 5, 12).mean(dim=0)
        centred = hidden - hidden.mean(dim=0)
        network[4].weight.copy_(torch.linalg.pinv(centred).T * 4)
        network[4].bias.copy_(-network[4].weight @ hidden.mean(dim=0))
    preprocessing = Preprocessing(8, resize="squash", interpolation="bilinear")
    return TargetModel("colours", network, labels=list(COLOURS), modules=["1"], preprocessing=preprocessing)


CONFIG = AlignmentConfig(encoder=EncoderSettings(steps=40, batch=64))


def align(root: Path, config: AlignmentConfig = CONFIG, **more: Any) -> str:
    return align_model(
        colour_model(), ColourClip(), ColourProbe(), config,  # type: ignore[arg-type]
        store=root / "store", atlas_root=root / "atlases", **more,
    )  # fmt: skip


def test_aligning_again_with_the_same_seed_gives_the_same_atlas(tmp_path: Path) -> None:
    first = align(tmp_path / "a")
    assert align(tmp_path / "b") == first
    assert align(tmp_path / "a") == first, "nor does it matter what the store already holds"
    assert align(tmp_path / "c", replace(CONFIG, encoder=replace(CONFIG.encoder, seed=1))) != first


def test_a_stopped_alignment_goes_on_to_the_same_atlas(tmp_path: Path) -> None:
    calls = 0

    def soon() -> bool:
        nonlocal calls
        calls += 1
        return calls > 5

    with pytest.raises(Cancelled):
        align(tmp_path / "a", cancelled=soon)
    assert align(tmp_path / "a") == align(tmp_path / "b")


def test_an_atlas_holds_what_its_labels_are_judged_by(tmp_path: Path) -> None:
    atlas = Atlas.open(tmp_path / "atlases", align(tmp_path))
    assert atlas.manifest.schema_version == 3
    for name in atlas.layer_names:
        layer = atlas.layer(name)
        assert all(getattr(layer, tensor) is not None for tensor in LABEL_TENSORS)
        assert layer.stability is not None and 0 <= layer.stability.min() <= layer.stability.max() <= 1
        metrics = layer.entry.metrics
        assert {"abstain_contrast", "label_precision", "label_coverage", "final_loss"} == set(metrics)
        assert 0 <= metrics["label_precision"] <= 1 and 0 <= metrics["label_coverage"] <= 1
    recorded = atlas.manifest.settings
    assert recorded["label_seeds"] == settings().label_seeds
    assert recorded["localize_temperature"] == settings().temperature


def test_the_logits_are_labelled_by_their_own_class(tmp_path: Path) -> None:
    searcher = AtlasSearcher(Atlas.open(tmp_path / "atlases", align(tmp_path)))
    found = searcher.describe("logits", range(5), searcher.labels)
    assert [unit.concepts[0].concept for unit in found] == list(COLOURS)
    assert all(unit.concepts[0].causal_score > 0 for unit in found)


def test_what_search_scores_is_what_the_alignment_judged(tmp_path: Path) -> None:
    atlas = Atlas.open(tmp_path / "atlases", align(tmp_path))
    searcher, layer = AtlasSearcher(atlas), atlas.layer("1")
    effects = np.stack([searcher.attribution_scores(text, "1") for text in searcher.labels.embeddings])
    np.testing.assert_allclose(layer.effect_mean, effects.mean(axis=0), atol=0.01 * np.abs(effects).max())
    np.testing.assert_allclose(layer.effect_std, effects.std(axis=0), atol=0.01 * np.abs(effects).max())


def test_attributions_at_other_points_are_kept_apart(tmp_path: Path) -> None:
    model, clip, probe = colour_model(), ColourClip(), ColourProbe()
    stores = [ActivationStore(tmp_path, model, clip, probe, ["1"], points) for points in (1, 4)]  # type: ignore[arg-type]
    assert stores[0].directory != stores[1].directory
    along = Atlas.open(tmp_path / "atlases", align(tmp_path, replace(CONFIG, points=4)))
    assert along.manifest.settings["attribution_points"] == 4
    assert align(tmp_path) != along.atlas_id
