"""A small atlas with planted structure, for tests that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.atlas import (
    SHARED,
    Atlas,
    PicturesEntry,
    compute_statistics,
    normalise,
    null_contrast,
    null_statistics,
    write_atlas,
)
from miclip.settings import settings

LABELS = ("dog", "cat", "bus", "tree", "moon", "bell", "fish", "tent")
DIM = 32


@dataclass
class Recipe:
    """An atlas before it is written; tests change it to taste.

    Unit i of layer "mid" is driven by label i % 8 and carries its logit.
    """

    seed: int = 0
    rows: int = 240
    units: int = 40
    labels: tuple[str, ...] = LABELS
    manifest: dict[str, Any] = field(init=False)
    tensors: dict[str, dict[str, Any]] = field(init=False)
    images: list[str] = field(init=False)
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        texts = normalise(rng.standard_normal((len(self.labels), DIM)) + 1.0)  # a shared direction, as real texts have
        predicted = rng.integers(0, len(self.labels), self.rows)
        images = normalise(texts[predicted] - 0.5 + 0.1 * rng.standard_normal((self.rows, DIM)))
        shared = {"image_embeddings": images, "predicted": predicted, "label_embeddings": texts}
        self.tensors = {SHARED: shared}
        self.images = [f"{row // 2}.png" for row in range(self.rows)]
        for layer, units in (("mid", self.units), ("logits", len(self.labels))):
            self.tensors[layer] = _layer(rng, texts, predicted, units)
        self.manifest = {
            "model": "toy",
            "weights_sha256": "a" * 64,
            "clip_id": "toy-clip",
            "clip_dim": DIM,
            "probe": {"set": "toy", "images": (self.rows + 1) // 2, "views": self.rows, "sha256": "b" * 64},
            "labels": list(self.labels),
            "settings": {"output_weight": 1.0, "seed": self.seed},
            "layers": [
                {"name": "mid", "kind": "channels", "units": self.units, "unit_embedding": "causal", "metrics": {}},
                {"name": "logits", "kind": "logits", "units": len(self.labels), "unit_embedding": "filter"},
            ],
            "licence": "none",
        }

    def judge(self, threshold: float | None = None) -> Recipe:
        """Add what labels are judged by, as an alignment does, to layer "mid"."""
        layer, predicted = self.tensors["mid"], self.tensors[SHARED]["predicted"]
        effects = np.stack([layer["attributions"][predicted == label].mean(0) for label in range(len(self.labels))])
        layer |= {"effect_mean": effects.mean(0), "effect_std": effects.std(0)}
        layer["null_contrast"] = null_contrast(effects, 500)
        layer["stability"] = np.linspace(0, 1, self.units)
        if threshold is not None:
            self.manifest["layers"][0]["metrics"] = {"abstain_contrast": threshold}
        return self

    def add_pictures(self, stem: str, encoded: list[bytes], **tensors: Any) -> Recipe:
        """Add thumbnails or held-out images."""
        ends = np.cumsum([len(picture) for picture in encoded])
        data = np.frombuffer(b"".join(encoded), np.uint8)
        self.pictures[stem] = {"ends": ends, "data": data, **tensors}
        entry = PicturesEntry(pictures=len(encoded), bytes=len(data), edge=96)
        self.manifest["pictures"] = {**self.manifest.get("pictures", {}), stem: entry}
        return self

    def write(self, root: Path) -> str:
        return write_atlas(root, self.manifest, self.tensors, self.images, self.pictures)

    def open(self, root: Path) -> Atlas:
        return Atlas.open(root, self.write(root))


def _layer(rng: np.random.Generator, texts: Any, predicted: Any, units: int) -> dict[str, Any]:
    concept = np.arange(units) % len(texts)
    driven = concept[None] == predicted[:, None]
    activations = np.maximum(0, 2 * driven + 0.3 * rng.standard_normal(driven.shape))
    attributions = activations * (driven + 0.1 * rng.standard_normal(driven.shape))
    centre = activations.mean(0)
    encoder = (texts - texts.mean(0))[concept].T + 0.02 * rng.standard_normal((DIM, units))
    z = normalise((activations - centre) @ encoder.T)
    layer = {
        "encoder": encoder,
        "centre": centre,
        "pattern": (activations - centre).T @ z / len(z),
        "causal": (attributions - attributions.mean(0)).T @ z / len(z),
        "activations": activations,
        "attributions": attributions,
        **compute_statistics(activations, np.arange(len(z)) // 2),
    }
    return layer | null_statistics(normalise(layer["causal"]).T, texts, 500)


@pytest.fixture
def recipe() -> type[Recipe]:
    return Recipe


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    return Recipe().open(tmp_path / "atlases")


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory that the settings point to."""
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    yield tmp_path / "data"
    settings.cache_clear()
