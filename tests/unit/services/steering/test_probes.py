"""Where the images of a measurement come from: the model's bundle, the probe set of its atlas, or nowhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miclip.atlas import HELD_OUT, THUMBNAILS
from miclip.catalogue import Catalogue
from miclip.demo.assets import DEMO
from miclip.demo.probe import demo_probe, held_out
from miclip.settings import Settings
from miclip.steering.edits import Edit, Op
from miclip.v1 import activation_pb2
from services.steering.atlas_probes import active_atlas, atlas_norm_change
from services.steering.probes import known_probes, no_probes

FIELD = "policy.norm_limit"


def model(name: str, labels: Any, atlas: str = "") -> activation_pb2.Model:
    return activation_pb2.Model(name=f"models/{name}", labels=labels, atlas=f"atlases/{atlas}" if atlas else "")


def pixels(encoded: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def demo_labels() -> tuple[str, ...]:
    assert DEMO.manifest.images is not None
    return DEMO.manifest.images.labels


@pytest.fixture
def aligned(recipe: Any, data_dir: Path) -> activation_pb2.Model:
    """A model with labels of its own and an atlas made from the probe set "toy"."""
    made = recipe(labels=tuple(f"part {n}" for n in range(8)))
    return model("toy", made.labels, made.write(data_dir / "atlases"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The images that the atlas names: two rows are of one file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(120):
        Image.new("RGB", (20, 20), (place, 0, 0)).save(folder / f"{place}.png")
    return folder


def test_a_bundled_model_is_measured_on_its_bundles_held_out_images() -> None:
    labels = Catalogue().load_target("emoji-resnet", "cpu").labels
    images, shown = known_probes(model("emoji-resnet", labels), Settings()).images([3])
    assert shown is not None
    assert len(images) == len(labels) + 15
    assert [shown.count(3), shown.count(4)] == [16, 1]
    views = held_out()
    second_view_of_3 = views.load(len(labels) + 3, len(labels) + 4)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(images[shown.index(3) + 1]), second_view_of_3)


def test_a_model_of_most_of_a_bundles_labels_is_measured_on_its_images_too() -> None:
    labels = [*demo_labels()[10:20], "something else"]
    images, shown = known_probes(model("mine", labels), Settings()).images(())
    assert (len(images), shown) == (10, list(range(10)))


def test_an_own_model_is_measured_on_the_probe_set_of_its_atlas(aligned: activation_pb2.Model, photos: Path) -> None:
    probes = known_probes(aligned, Settings(probe_sets={"toy": photos}))
    images, shown = probes.images(())
    assert shown is None, "the model says what they show"
    assert len(images) == 112
    assert len({int(pixels(image)[0, 0, 0]) for image in images}) > 100, "spread over the set"
    assert 112 < len(probes.images([2])[0]) <= 128


def webp(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (red, 0, 0)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def held_out_atlas(recipe: Any, root: Path, shown: Any) -> activation_pb2.Model:
    """A model whose atlas has 150 held-out images, of label n % 8 but no 5, and a thumbnail of row 7."""
    made = recipe(labels=tuple(f"part {n}" for n in range(8)))
    labels = np.array([n % 8 if n % 8 != 5 else 4 for n in range(150)])
    encoded = [webp(label) for label in labels]
    made.add_pictures(HELD_OUT, encoded, predicted=labels, shown=labels if shown == "known" else labels * 0 - 1)
    made.tensors["shared"]["predicted"][7] = 5
    made.add_pictures(THUMBNAILS, [webp(200)], rows=np.array([7]))
    return model("toy", made.labels, made.write(root))


@pytest.mark.parametrize("shown", ["known", "unknown"])
def test_an_own_model_is_measured_on_the_held_out_images_of_its_atlas(recipe: Any, data_dir: Path, shown: str) -> None:
    probes = known_probes(held_out_atlas(recipe, data_dir / "atlases", shown), Settings())
    images, labels = probes.images(())
    assert len(images) == 112
    assert labels == ([int(pixels(image)[0, 0, 0]) for image in images] if shown == "known" else None)
    further, labels = probes.images([3])
    assert 112 < len(further) <= 128 and sum(pixels(image)[0, 0, 0] == 3 for image in further) >= 16
    assert ("labels of their own" in probes.source([3])) == (shown == "known")
    assert ("unsteered model" in probes.source([3])) == (shown == "unknown")
    assert "thumbnails" not in probes.source([3])


def test_thumbnails_show_a_target_that_no_held_out_image_shows(recipe: Any, data_dir: Path) -> None:
    probes = known_probes(held_out_atlas(recipe, data_dir / "atlases", "known"), Settings())
    images, labels = probes.images([5])
    assert labels is not None and labels.count(5) == 1
    assert pixels(images[labels.index(5)])[0, 0, 0] == 200
    assert "thumbnails" in probes.source([5])


def test_held_out_images_come_before_those_that_the_alignment_used(recipe: Any, data_dir: Path, photos: Path) -> None:
    probes = known_probes(held_out_atlas(recipe, data_dir / "atlases", "known"), Settings(probe_sets={"toy": photos}))
    assert "set aside" in probes.source(())


def test_large_files_are_sent_small(aligned: activation_pb2.Model, photos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    Image.fromarray(noise).save(photos / "0.png")
    config = Settings(probe_sets={"toy": photos})
    images, _ = known_probes(aligned, config).images(())
    assert pixels(images[0]).shape == (384, 512, 3)
    assert sum(map(len, images[: config.max_images])) < config.max_message_bytes


def test_an_atlas_made_from_a_bundles_probe_set_needs_no_folder(recipe: Any, data_dir: Path) -> None:
    made = recipe(labels=tuple(f"part {n}" for n in range(8)))
    made.manifest["probe"]["set"] = "demo"
    made.images = list(demo_probe().names[: len(made.images)])
    images, _ = known_probes(model("toy", made.labels, made.write(data_dir / "atlases")), Settings()).images(())
    np.testing.assert_array_equal(pixels(images[0]), demo_probe().load(0, 1)[0].permute(1, 2, 0).numpy())


def test_names_of_an_atlas_lead_out_of_no_folder(recipe: Any, data_dir: Path, photos: Path) -> None:
    made = recipe(labels=tuple(f"part {n}" for n in range(8)))
    (photos.parent / "secret.png").write_bytes((photos / "1.png").read_bytes())
    made.images = ["../secret.png"] * len(made.images)
    escaping = model("toy", made.labels, made.write(data_dir / "atlases"))
    assert known_probes(escaping, Settings(probe_sets={"toy": photos})) is None


def test_a_model_that_the_server_has_no_images_of_has_none(aligned: activation_pb2.Model, photos: Path) -> None:
    cases = [(aligned, {}), (aligned, {"toy": photos / "nowhere"}), (model("toy", ["a", "b"]), {"toy": photos})]
    for one, sets in cases:
        assert known_probes(one, Settings(probe_sets=sets)) is None


@pytest.mark.parametrize(("field", "remedy"), [(FIELD, "leave it out"), ("images", "send images")])
def test_the_refusal_names_a_field_that_was_sent_and_the_remedy(field: str, remedy: str) -> None:
    refusal = no_probes(model("toy", ["a", "b"]), field)
    assert refusal.field == field
    assert remedy in refusal.message
    assert "MICLIP_PROBE_SETS" in refusal.message


def test_without_images_the_norm_change_is_that_of_the_activations_in_the_atlas(
    aligned: activation_pb2.Model, data_dir: Path
) -> None:
    stored = np.asarray(active_atlas(aligned).layer("mid").activations, np.float32)  # type: ignore[union-attr]
    edited = stored.copy()
    edited[:, 3], edited[:, 5] = 2 * edited[:, 3] + 0.5, 4.0
    edits = [Edit("mid", 3, Op.SCALE, 2.0), Edit("mid", 3, Op.ADD, 0.5), Edit("mid", 5, Op.CLAMP, 4.0)]
    expected = np.linalg.norm(edited - stored, axis=1).max() / np.linalg.norm(stored, axis=1).mean()
    assert atlas_norm_change(aligned, edits) == pytest.approx(expected, rel=1e-5)
    assert atlas_norm_change(aligned, [Edit("elsewhere", 0, Op.SCALE, 2.0)]) is None
    assert atlas_norm_change(model("toy", ["a", "b"]), edits) is None
