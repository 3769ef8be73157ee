"""One server answers atlases that were made in several spaces, each in its own, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from miclip.cli.app import app
from miclip.models import _torchvision  # noqa: F401  (before timm)
from miclip.settings import settings
from miclip.v1 import aligner_pb2, retrieval_pb2, steering_pb2
from tests.names import RESNET_NAME
from tests.tiny_clip import write_tiny_clip

MODELS = ("space-a", "space-b")
LABELS = ("red thing", "green thing", "blue thing")


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr or result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def spaces(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """CLIP of each model, which the command line has aligned in the data directory of the server."""
    import timm
    import torch
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("spaces")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet.r160_in1k", num_classes=len(LABELS))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, root / "w.safetensors")
    (root / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    (root / "images").mkdir()
    for number in range(48):
        colour = tuple(200 - 3 * number if place == number % 3 else 20 for place in range(3))
        Image.new("RGB", (32, 32), colour).save(root / "images" / f"{number:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**server.environment, "MICLIP_LABEL_SEEDS": "2"}.items():
            patch.setenv(name, value)
        settings.cache_clear()
        made = {
            model: run(
                "align", "--model", "timm/test_resnet", "--weights", str(root / "w.safetensors"), "--id", model,
                "--labels", str(root / "labels.txt"), "--images", str(root / "images"), "--steps", "5",
                "--clip", str(write_tiny_clip(root / model, seed, dim=8 * (1 + seed))),
            )["clip_id"]
            for seed, model in enumerate(MODELS)
        }  # fmt: skip
    settings.cache_clear()
    yield made


def localize(wire: Any, model: str, text: str = "fur") -> Any:
    return wire.call(
        "retrieval/LocalizeConcepts", retrieval_pb2.LocalizeConceptsRequest(model=f"models/{model}", texts=[text])
    )


def describe(wire: Any, model: str, **words: Any) -> Any:
    unit = f"models/{model}/layers/logits/units/0"
    return wire.call("retrieval/DescribeUnits", retrieval_pb2.DescribeUnitsRequest(units=[unit], **words))


def test_every_request_is_answered_in_the_space_of_its_atlas(wire: Any, spaces: dict[str, str]) -> None:
    concepts = retrieval_pb2.ConceptList(concepts=["fur", "a red car"])
    demo = localize(wire, RESNET_NAME.removeprefix("models/")).provenance.clip_id
    assert demo not in spaces.values()
    with ThreadPoolExecutor(8) as pool:
        asked = [*MODELS, RESNET_NAME.removeprefix("models/")] * 4
        answers = list(pool.map(lambda model: localize(wire, model, "a red car"), asked))
    assert [answer.provenance.clip_id for answer in answers] == [spaces.get(model, demo) for model in asked]
    for model, clip_id in spaces.items():
        answer = describe(wire, model, concepts=concepts)
        assert answer.provenance.clip_id == clip_id
        assert {one.concept for one in answer.descriptions[0].concepts} == {"fur", "a red car"}


def test_texts_and_images_are_embedded_in_the_space_that_is_named(
    wire: Any, spaces: dict[str, str], dog: bytes
) -> None:
    sizes = {"": 384, spaces["space-a"]: 8, spaces["space-b"]: 16}
    for clip_id, size in sizes.items():
        texts = wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["fur"], clip_id=clip_id))
        images = wire.call("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(images=[dog], clip_id=clip_id))
        for answer in (texts, images):
            assert clip_id in ("", answer.clip_id)
            assert np.array(answer.embeddings[0].values).shape == (size,)


def test_a_vocabulary_is_embedded_in_each_space_when_it_is_asked_for(wire: Any, spaces: dict[str, str]) -> None:
    made = retrieval_pb2.CreateVocabularyRequest(vocabulary_id="three-spaces", concepts=["fur", "wheel", "sky"])
    name = wire.call("retrieval/CreateVocabulary", made).vocabulary.name
    try:
        for _ in range(2):
            for model, clip_id in spaces.items():
                answer = describe(wire, model, vocabulary=name)
                assert answer.provenance.clip_id == clip_id
                assert {one.concept for one in answer.descriptions[0].concepts} == {"fur", "wheel", "sky"}
    finally:
        wire.call("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name=name))


def test_a_policy_by_concept_and_a_trace_use_the_space_of_the_atlas(
    wire: Any, spaces: dict[str, str], dog: bytes
) -> None:
    policy = steering_pb2.Policy(model="models/space-a", concept=steering_pb2.ConceptSteering(text="fur", scale=0))
    made = wire.call("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy_id="in-space-a", policy=policy))
    wire.call("steering/DeletePolicy", steering_pb2.DeletePolicyRequest(name=made.policy.name))
    assert made.policy.resolved_edits and made.policy.concept.HasField("evidence")
    request = aligner_pb2.TraceImagesRequest(model="models/space-b", images=[dog], concepts=["fur"])
    assert wire.call("aligner/TraceImages", request).provenance.clip_id == spaces["space-b"]


def test_a_space_that_is_not_known_is_a_failed_precondition_with_a_remedy(
    wire: Any, spaces: dict[str, str], server: Any
) -> None:
    refused = wire.refusal("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["fur"], clip_id="0" * 64))
    assert refused.code == "FAILED_PRECONDITION"
    assert "miclip align --clip" in refused.message
    refused = wire.refusal("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["fur"], clip_id="../x"))
    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", ("clip_id",))


def test_another_model_is_aligned_on_no_images_of_the_demo(wire: Any, spaces: dict[str, str]) -> None:
    refused = wire.refusal(
        "aligner/CreateAlignment", aligner_pb2.CreateAlignmentRequest(model="models/space-a", activate=True)
    )
    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", ("probe_set",))
    assert "demo, small" in refused.message and "MICLIP_PROBE_SETS" in refused.message
