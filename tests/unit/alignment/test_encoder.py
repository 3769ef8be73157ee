"""The loss, the linear encoder, the unit embeddings and the resumable activation store."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from miclip.alignment import ActivationStore, DirectoryProbe, EncoderSettings, NeuronEncoder, train_encoder
from miclip.alignment.embedding import unit_embeddings
from miclip.alignment.encoder import _batches
from miclip.alignment.loss import dual_loss, info_nce
from miclip.errors import InvalidInput


def _rows(count: int, dim: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_shared_labels_the_loss_is_open_clips() -> None:
    left, right = _rows(16, 8, 0), _rows(16, 8, 1)
    from open_clip import ClipLoss  # after miclip.models, which lets torchvision import

    theirs = ClipLoss()(left, right, torch.tensor(20.0))
    assert info_nce(left, right, 20.0).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_rows_of_the_same_label_are_positives_of_each_other() -> None:
    texts = torch.eye(4)[[0, 0, 1, 1]]
    labels = torch.tensor([0, 0, 1, 1])
    # Perfect embeddings: with every row of a label a positive, nothing is left but the entropy of two equal targets.
    assert info_nce(texts, texts, 100.0, labels).item() == pytest.approx(math.log(2), abs=1e-4)
    worse = info_nce(texts[[1, 2, 3, 0]], texts, 100.0, labels).item()
    assert worse > math.log(2) + 1


def test_the_weights_of_the_two_terms_are_linear() -> None:
    z, texts, images, labels = _rows(12, 8, 0), _rows(12, 8, 1), _rows(12, 8, 2), torch.arange(12) % 5
    labels = (labels, torch.arange(12))
    out = dual_loss(z, texts, images, *labels, 10.0, output_weight=1, input_weight=0)
    into = dual_loss(z, texts, images, *labels, 10.0, output_weight=0, input_weight=1)
    both = dual_loss(z, texts, images, *labels, 10.0, output_weight=2, input_weight=0.5)
    assert both.item() == pytest.approx(2 * out.item() + 0.5 * into.item(), rel=1e-5)


def test_views_of_one_image_do_not_count_against_each_other_in_the_input_loss() -> None:
    """To be embedded as the other view of one's own image costs nothing more; as another image it does."""
    images, labels = _rows(4, 8, 0), torch.arange(4)
    order, views = torch.tensor([1, 0, 2, 3]), torch.tensor([7, 7, 3, 5])

    def loss(embedded: Tensor, sources: Tensor) -> float:
        return dual_loss(
            embedded, images, images, labels, sources, 20.0, output_weight=0, input_weight=1
        ).item()  # fmt: skip

    assert loss(images[order], views) == pytest.approx(loss(images, views), rel=1e-5)
    assert loss(images[order], torch.arange(4)) > loss(images, torch.arange(4)) + 1


def test_an_epoch_has_every_row_once_and_each_epoch_an_order_of_its_own() -> None:
    batches = list(islice(_batches(10, 4, torch.Generator().manual_seed(0)), 4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4]
    first, second = torch.cat(batches[:2]).tolist(), torch.cat(batches[2:]).tolist()
    assert len(set(first)) == len(set(second)) == 8, "no row twice; the last two of an epoch are left out"
    assert first != second
    assert [len(batch) for batch in islice(_batches(3, 256, torch.Generator()), 2)] == [3, 3]


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, ...]:
    """Unit ``i`` fires for label ``i``, on scales that differ a thousandfold; unit 6 never moves. No image twice."""
    generator = np.random.default_rng(0)
    labels = normalize(torch.from_numpy(generator.standard_normal((6, 32)).astype(np.float32)), dim=1).numpy()
    predicted = np.repeat(np.arange(6), 40)
    activations = generator.random((240, 7)).astype(np.float32) * 0.1
    activations[np.arange(240), predicted] += 1.0
    activations *= np.array([1, 1000, 0.1, 10, 1, 5, 0], np.float32)
    activations[:, 6] = 3.0
    images = labels[predicted] + 0.3 * generator.standard_normal((240, 32)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    return activations, predicted, labels, images, np.arange(240)


@pytest.fixture(scope="module")
def encoder(planted: tuple[np.ndarray, ...]) -> NeuronEncoder:
    return train_encoder(*planted, EncoderSettings(steps=150, batch=128))


@given(st.integers(0, 2**31), st.floats(-5, 5), st.floats(-5, 5))
def test_the_encoder_is_linear_whatever_scaling_was_used_in_training(
    encoder: NeuronEncoder, seed: int, alpha: float, beta: float
) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((2, 1, 7)).astype(np.float32)
    left = encoder(np.float32(alpha) * x + np.float32(beta) * y)
    right = np.float32(alpha) * encoder(x) + np.float32(beta) * encoder(y)
    assert np.allclose(left, right, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(right).max())))


@pytest.mark.parametrize("kind", ["filter", "pattern", "causal"])
def test_a_planted_unit_is_closest_to_its_own_label(
    encoder: NeuronEncoder, planted: tuple[np.ndarray, ...], kind: str
) -> None:
    activations, predicted, labels = planted[:3]
    attributions = np.zeros_like(activations)
    attributions[np.arange(240), predicted] = 2.0
    embedding = unit_embeddings(encoder, activations, attributions)[kind][:6]
    texts = labels - labels.mean(axis=0)
    assert (embedding @ texts.T / np.linalg.norm(texts, axis=1)).argmax(axis=1).tolist() == list(range(6))


def test_a_unit_that_never_moves_has_no_filter(encoder: NeuronEncoder) -> None:
    assert np.abs(encoder.weight[:, 6]).max() == 0
    assert np.isfinite(encoder.weight).all()


def test_the_same_seed_gives_the_same_encoder(planted: tuple[np.ndarray, ...]) -> None:
    settings = EncoderSettings(steps=20, batch=64, seed=3)
    first, second = train_encoder(*planted, settings), train_encoder(*planted, settings)
    assert np.array_equal(first.weight, second.weight)


@pytest.mark.parametrize("steps", [1, 5, 11])
def test_a_short_training_reports_its_loss_too(planted: tuple[np.ndarray, ...], steps: int) -> None:
    assert np.isfinite(train_encoder(*planted, EncoderSettings(steps=steps, batch=32)).loss)


def test_pattern_and_causal_are_covariances(encoder: NeuronEncoder, planted: tuple[np.ndarray, ...]) -> None:
    activations = planted[0]
    attributions = np.random.default_rng(1).standard_normal(activations.shape).astype(np.float32)
    z = (activations - activations.mean(axis=0)) @ encoder.weight.T
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = unit_embeddings(encoder, activations, attributions)
    for unit in (0, 1, 5):
        a = (activations[:, unit] - activations[:, unit].mean()) / activations[:, unit].std()
        r = attributions[:, unit] - attributions[:, unit].mean()
        assert np.allclose(found["pattern"][unit], (a[:, None] * (z - z.mean(axis=0))).mean(axis=0), atol=1e-4)
        assert np.allclose(found["causal"][unit], (r[:, None] * (z - z.mean(axis=0))).mean(axis=0), atol=1e-4)


class _CountingModel:
    """The part of a target model that the store uses, around a real network; counts the images it is given."""

    name = "diverged"
    weights_sha256 = "0" * 64
    dictionaries: ClassVar[dict[str, nn.Module]] = {}

    def __init__(self) -> None:
        self.images = 0
        self.network = nn.Linear(3, 5)

    def preprocess(self, image: Tensor) -> Tensor:
        return image.float().mean(dim=(1, 2)) / 255

    def attribute(self, batch: Tensor, layers: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        self.images += len(batch)
        logits = self.network(batch).detach()
        return logits, {layer: batch for layer in layers}, {layer: -batch for layer in layers}


class _MeanClip:
    clip_id = "mean"

    def embed_images(self, images: list[Tensor]) -> np.ndarray:
        return np.stack([image.float().mean(dim=(1, 2)).numpy() / 255 for image in images])


def _picture_directory(path: Path, count: int) -> Path:
    from PIL import Image

    for index in range(count):
        Image.new("RGB", (8, 8), (index % 256, 100, 7)).save(path / f"{index:04d}.png")
    return path


def test_a_stopped_store_goes_on_where_it_stopped_and_holds_the_same(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    probe = DirectoryProbe(_picture_directory(tmp_path / "images", 150))
    stopped, whole = _CountingModel(), _CountingModel()
    whole.network = stopped.network
    calls = iter([False, True])
    store = ActivationStore(tmp_path / "a", stopped, _MeanClip(), probe, ["l"])  # type: ignore[arg-type]
    store.fill(cancelled=lambda: next(calls))
    assert 0 < store.done < 150
    with pytest.raises(InvalidInput, match="of 150"):
        store.read()
    again = ActivationStore(tmp_path / "a", stopped, _MeanClip(), probe, ["l"])  # type: ignore[arg-type]
    again.fill()
    assert stopped.images == 150, "no image is run twice"
    straight = ActivationStore(tmp_path / "b", whole, _MeanClip(), probe, ["l"])  # type: ignore[arg-type]
    straight.fill()
    for key in ("activations", "attributions"):
        assert np.array_equal(getattr(again.read(), key)["l"], getattr(straight.read(), key)["l"])
    assert np.allclose(again.read().logits, straight.read().logits, atol=1e-6)


def test_a_model_that_gives_no_finite_numbers_is_refused(tmp_path: Path) -> None:
    diverged = _CountingModel()
    diverged.network.weight.data[0, 0] = float("nan")
    probe = DirectoryProbe(_picture_directory(tmp_path, 20))
    store = ActivationStore(tmp_path / "store", diverged, _MeanClip(), probe, ["l"])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"diverged gives numbers that are not finite \(logits\)"):
        store.fill()
    assert store.done == 0


def test_a_probe_directory_with_too_few_images_says_how_many_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="found 3 images; an alignment needs at least 16"):
        DirectoryProbe(_picture_directory(tmp_path, 3))


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path) -> None:
    from PIL import Image

    whole = _picture_directory(tmp_path, 20)
    expected = DirectoryProbe(whole)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.JPG").write_text("not an image")
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    for silent in (".hidden.png", ".cache/0.png", "folder.png/x", "notes.txt"):
        (tmp_path / silent).parent.mkdir(exist_ok=True)
        (tmp_path / silent).write_text("x")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    probe = DirectoryProbe(tmp_path)
    assert (probe.names, probe.sha256) == (expected.names, expected.sha256)
    assert probe.skipped == ("cut.jpg", "empty.png", "text.JPG")
    assert len(probe.load(0, 20)) == 20


def test_changed_pixels_change_the_hash_of_a_probe_set(tmp_path: Path) -> None:
    before = DirectoryProbe(_picture_directory(tmp_path, 20)).sha256
    (tmp_path / "0003.png").write_bytes((tmp_path / "0004.png").read_bytes())
    assert DirectoryProbe(tmp_path).sha256 != before
