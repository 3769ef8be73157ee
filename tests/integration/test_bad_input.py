"""Bad input to every RPC: the right status, field and allowed range; nothing internal, and no harm done."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering

pytestmark = pytest.mark.integration

MODEL = "models/emoji-resnet"
LAYER = f"{MODEL}/layers/layer4"
UNIT = f"{LAYER}/units/0"
MEGABYTE = "a" * 2**20
UINT32 = 2**32 - 1
TRAVERSAL = "models/../../etc/passwd"
INVALID = "INVALID_ARGUMENT"


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG with any header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """Some kilobytes that announce and hold 300 million pixels."""
    return png(15_000, 20_000, zlib.compress(bytes(40 * 2**20), 9))


BAD_IMAGES = {
    "empty": b"",
    "text": b"not an image at all",
    "huge header": png(65535, 65535),
    "bomb": bomb(),
    "truncated": png(64, 64, zlib.compress(b"\0" * 100)[:20]),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "zero size": png(0, 0),
}


@dataclass(frozen=True)
class Bad:
    """A request that must be refused.

    Attributes:
        rpc: ``application/Method``.
        request: The request.
        field: Field that must be named; a prefix is enough.
        code: Status.
        allowed: Whether the allowed range must be told.
    """

    rpc: str
    request: Any
    field: str
    code: str = INVALID
    allowed: bool = True


def edits(**change: Any) -> resources_pb2.EditList:
    edit: dict[str, Any] = {"layer": LAYER, "unit": 0}
    return resources_pb2.EditList(edits=[resources_pb2.Edit(**(edit | change))])


def predict(**change: Any) -> activation_pb2.PredictRequest:
    return activation_pb2.PredictRequest(**({"model": MODEL, "images": [GOOD]} | change))


def capture(**change: Any) -> activation_pb2.CaptureActivationsRequest:
    return activation_pb2.CaptureActivationsRequest(**({"model": MODEL, "images": [GOOD], "layers": [LAYER]} | change))


def localize(**change: Any) -> retrieval_pb2.LocalizeConceptsRequest:
    return retrieval_pb2.LocalizeConceptsRequest(**({"model": MODEL, "texts": ["dog"]} | change))


def trace(**change: Any) -> aligner_pb2.TraceImagesRequest:
    return aligner_pb2.TraceImagesRequest(**({"model": MODEL, "images": [GOOD], "concepts": ["dog"]} | change))


def describe_units(**change: Any) -> retrieval_pb2.DescribeUnitsRequest:
    return retrieval_pb2.DescribeUnitsRequest(**({"units": [UNIT]} | change))


def create(**change: Any) -> steering.CreatePolicyRequest:
    policy = steering.Policy(**({"model": MODEL, "edits": edits(scale=0)} | change))
    return steering.CreatePolicyRequest(policy=policy)


def concept(**change: Any) -> steering.CreatePolicyRequest:
    return create(edits=None, concept=steering.ConceptSteering(**({"text": "dog", "scale": 0} | change)))


GOOD = png(8, 8, zlib.compress(b"\0" * (8 * 25)))


def bad_images() -> Iterator[tuple[str, Bad]]:
    for name, data in BAD_IMAGES.items():
        yield name, Bad("activation/Predict", predict(images=[GOOD, data]), "images[1]")
        yield name, Bad("activation/CaptureActivations", capture(images=[data]), "images[0]")
        yield name, Bad("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(images=[data]), "images[0]")
        yield name, Bad("aligner/TraceImages", trace(images=[GOOD, data]), "images[1]")
        yield name, Bad("retrieval/LocalizeConcepts", localize(texts=[], images=[data]), "images[0]")
        policy = steering.Policy(model=MODEL, edits=edits(scale=0))
        preview = steering.PreviewPolicyRequest(policy=policy, images=[data])
        yield name, Bad("steering/PreviewPolicy", preview, "images[0]")
    for request in (predict(images=[]), predict(images=[GOOD] * 65)):
        yield f"{len(request.images)} images", Bad("activation/Predict", request, "images")
    yield "no images", Bad("activation/CaptureActivations", capture(images=[]), "images")
    yield "no images", Bad("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(), "images")


def bad_numbers() -> Iterator[tuple[str, Bad]]:
    for top_k in (0, UINT32):
        name = f"top_k {top_k}"
        yield name, Bad("activation/Predict", predict(top_k=top_k), "top_k")
        yield name, Bad("activation/CaptureActivations", capture(top_k=top_k), "top_k")
        yield name, Bad("aligner/TraceImages", trace(top_k=top_k), "top_k")
        yield name, Bad("retrieval/DescribeUnits", describe_units(top_k=top_k), "top_k")
        yield name, Bad("retrieval/LocalizeConcepts", localize(top_k=top_k), "top_k")
        yield name, Bad("steering/CreatePolicy", concept(top_k=top_k), "policy.concept.top_k")
    for value in (float("nan"), float("inf"), 1e38, -1e38):
        for op in ("scale", "add", "clamp"):
            field = f"edits.edits[0].{op}"
            strong = edits(**{op: value})
            yield f"{op} {value}", Bad("activation/Predict", predict(edits=strong), field)
            yield f"{op} {value}", Bad("activation/CaptureActivations", capture(edits=strong), field)
            yield f"{op} {value}", Bad("steering/CreatePolicy", create(edits=strong), f"policy.{field}")
        relative = edits(add=value, relative_to_max=True)
        yield f"relative {value}", Bad("activation/Predict", predict(edits=relative), "edits.edits[0].add")
        yield f"scale {value}", Bad("steering/CreatePolicy", concept(scale=value), "policy.concept.scale")
        share = create(traffic_share=value)
        yield f"share {value}", Bad("steering/CreatePolicy", share, "policy.traffic_share")
        yield f"norm {value}", Bad("steering/CreatePolicy", create(norm_limit=value), "policy.norm_limit")
        heat = localize(temperature=value)
        yield f"temperature {value}", Bad("retrieval/LocalizeConcepts", heat, "temperature")
    for share_ in (0.0, -0.5, 1.5):
        yield f"share {share_}", Bad("steering/CreatePolicy", create(traffic_share=share_), "policy.traffic_share")
    ttl = create(ttl_seconds=2**63)
    yield "ttl", Bad("steering/CreatePolicy", ttl, "policy.ttl_seconds")
    size = {"page_size": UINT32}
    yield "page_size", Bad("activation/ListModels", activation_pb2.ListModelsRequest(**size), "page_size")
    yield "page_size", Bad("aligner/ListAlignments", aligner_pb2.ListAlignmentsRequest(**size), "page_size")
    yield "page_size", Bad("aligner/ListAtlases", aligner_pb2.ListAtlasesRequest(**size), "page_size")
    yield "page_size", Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=LAYER, **size), "page_size")
    vocabularies = retrieval_pb2.ListVocabulariesRequest(**size)
    yield "page_size", Bad("retrieval/ListVocabularies", vocabularies, "page_size")
    yield "page_size", Bad("steering/ListPolicies", steering.ListPoliciesRequest(**size), "page_size")
    token = activation_pb2.ListModelsRequest(page_token="not mine")
    yield "page_token", Bad("activation/ListModels", token, "page_token")
    for unit in (256, UINT32):
        beyond = edits(unit=unit, scale=0)
        yield f"unit {unit}", Bad("activation/Predict", predict(edits=beyond), "edits.edits[0].unit")
        yield f"unit {unit}", Bad("steering/CreatePolicy", create(edits=beyond), "policy.edits.edits[0].unit")
    for settings in ({"steps": 0}, {"steps": UINT32}, {"temperature": float("nan")}, {"output_weight": 1e38}):
        chosen = aligner_pb2.AlignmentSettings(**settings)
        request = aligner_pb2.CreateAlignmentRequest(model=MODEL, settings=chosen)
        yield str(settings), Bad("aligner/CreateAlignment", request, f"settings.{next(iter(settings))}")


def bad_texts() -> Iterator[tuple[str, Bad]]:
    for name, text in (("1 MB", MEGABYTE), ("empty", ""), ("blank", "  "), ("control", "a\x00b")):
        yield name, Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["dog", text]), "texts[1]")
        yield name, Bad("aligner/TraceImages", trace(concepts=["dog", text]), "concepts[1]")
        yield name, Bad("retrieval/LocalizeConcepts", localize(texts=[text]), "texts[0]")
        words = retrieval_pb2.ConceptList(concepts=["dog", text])
        yield name, Bad("retrieval/DescribeUnits", describe_units(concepts=words), "concepts.concepts[1]")
        vocabulary = retrieval_pb2.CreateVocabularyRequest(vocabulary_id="v", concepts=["dog", text])
        yield name, Bad("retrieval/CreateVocabulary", vocabulary, "concepts[1]")
        yield name, Bad("steering/CreatePolicy", concept(text=text), "policy.concept.text")
        yield name, Bad("steering/StopSteering", steering.StopSteeringRequest(reason=text), "reason")
        yield name, Bad("steering/ResumeSteering", steering.ResumeSteeringRequest(reason=text), "reason")
    yield "1 MB", Bad("steering/CreatePolicy", create(description=MEGABYTE), "policy.description")
    yield "none", Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(), "texts")
    yield "too many", Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["a"] * 257), "texts")
    yield "none", Bad("retrieval/LocalizeConcepts", localize(texts=[]), "")


def bad_names() -> Iterator[tuple[str, Bad]]:
    wrong = (TRAVERSAL, "", MEGABYTE, "models/", "models/a/b", "models/emoji-resnet\n", "modèles/é")
    for value in wrong:
        name = repr(value[:30])
        yield name, Bad("activation/GetModel", activation_pb2.GetModelRequest(name=value), "name")
        yield name, Bad("activation/Predict", predict(model=value), "model")
        yield name, Bad("activation/CaptureActivations", capture(model=value), "model")
        yield name, Bad("activation/CaptureActivations", capture(layers=[value]), "layers[0]")
        yield name, Bad("activation/Predict", predict(edits=edits(layer=value, scale=0)), "edits.edits[0].layer")
        yield name, Bad("activation/Predict", predict(policy=value), "policy")
        yield name, Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[UNIT, value]), "units[1]")
        yield name, Bad("aligner/CreateAlignment", aligner_pb2.CreateAlignmentRequest(model=value), "model")
        yield name, Bad("aligner/TraceImages", trace(model=value), "model")
        yield name, Bad("aligner/GetAlignment", aligner_pb2.GetAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/CancelAlignment", aligner_pb2.CancelAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/WatchAlignment", aligner_pb2.WatchAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/GetAtlas", aligner_pb2.GetAtlasRequest(name=value), "name")
        yield name, Bad("aligner/ActivateAtlas", aligner_pb2.ActivateAtlasRequest(name=value), "name")
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[UNIT, value]), "units[1]")
        yield name, Bad("retrieval/DescribeUnits", describe_units(vocabulary=value), "vocabulary")
        yield name, Bad("retrieval/LocalizeConcepts", localize(model=value), "model")
        yield name, Bad("retrieval/LocalizeConcepts", localize(layers=[value]), "layers[0]")
        yield name, Bad("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=value), "name")
        yield name, Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=value), "parent")
        yield name, Bad("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name=value), "name")
        yield name, Bad("steering/CreatePolicy", create(model=value), "policy.model")
        yield name, Bad("steering/GetPolicy", steering.GetPolicyRequest(name=value), "name")
        yield name, Bad("steering/DeletePolicy", steering.DeletePolicyRequest(name=value), "name")
        yield name, Bad("steering/PreviewPolicy", steering.PreviewPolicyRequest(name=value), "name")
        update = steering.UpdatePolicyRequest(policy=steering.Policy(name=value))
        yield name, Bad("steering/UpdatePolicy", update, "policy.name")
        if value:
            vocabulary = retrieval_pb2.CreateVocabularyRequest(vocabulary_id=value, concepts=["dog"])
            yield name, Bad("retrieval/CreateVocabulary", vocabulary, "vocabulary_id")
            policy = steering.CreatePolicyRequest(policy_id=value, policy=create().policy)
            yield name, Bad("steering/CreatePolicy", policy, "policy_id")
            stop = steering.StopSteeringRequest(model=value, reason="x")
            yield name, Bad("steering/StopSteering", stop, "model")
            yield name, Bad("aligner/ListAtlases", aligner_pb2.ListAtlasesRequest(model=value), "model")
            yield name, Bad("steering/ListPolicies", steering.ListPoliciesRequest(model=value), "model")
            token = steering.ListPoliciesRequest(page_token=value)
            yield name, Bad("steering/ListPolicies", token, "page_token")
            yield name, Bad("steering/WatchPolicies", steering.WatchPoliciesRequest(model=value), "model")
            resumed = steering.WatchPoliciesRequest(resume_token=value)
            yield name, Bad("steering/WatchPolicies", resumed, "resume_token")


def unknown_names() -> Iterator[tuple[str, Bad]]:
    model, layer = "models/none", f"{MODEL}/layers/none"
    sha = "atlases/" + "0" * 64

    def missing(rpc: str, request: Any, field: str, *, allowed: bool = False) -> tuple[str, Bad]:
        return "unknown", Bad(rpc, request, field, "NOT_FOUND", allowed)

    yield missing("activation/GetModel", activation_pb2.GetModelRequest(name=model), "", allowed=True)
    yield missing("activation/Predict", predict(model=model), "model", allowed=True)
    yield missing("activation/Predict", predict(policy="policies/none"), "policy")
    yield missing(
        "activation/Predict", predict(edits=edits(layer=layer, scale=0)), "edits.edits[0].layer", allowed=True
    )
    yield missing("activation/CaptureActivations", capture(layers=[layer]), "layers[0]", allowed=True)
    yield missing("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[f"{layer}/units/0"]), "units[0]")
    yield missing("aligner/CreateAlignment", aligner_pb2.CreateAlignmentRequest(model=model), "model")
    yield missing("aligner/TraceImages", trace(model=model), "model")
    yield missing("aligner/GetAlignment", aligner_pb2.GetAlignmentRequest(name="alignments/none"), "name")
    yield missing("aligner/GetAtlas", aligner_pb2.GetAtlasRequest(name=sha), "name")
    yield missing("aligner/ActivateAtlas", aligner_pb2.ActivateAtlasRequest(name=sha), "name")
    yield missing("retrieval/DescribeUnits", describe_units(units=[f"{model}/layers/a/units/0"]), "units[0]")
    yield missing("retrieval/DescribeUnits", describe_units(vocabulary="vocabularies/none"), "vocabulary")
    yield missing("retrieval/LocalizeConcepts", localize(model=model), "model")
    yield missing("retrieval/LocalizeConcepts", localize(layers=[layer]), "layers[0]")
    yield missing("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=f"{layer}/units/0"), "name")
    yield missing("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=layer), "parent")
    yield missing("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name="vocabularies/none"), "name")
    yield missing("steering/CreatePolicy", create(model=model), "policy.model")
    yield missing("steering/CreatePolicy", concept(layers=[layer]), "policy.concept.layers[0]")
    yield missing("steering/GetPolicy", steering.GetPolicyRequest(name="policies/none"), "name")
    yield missing("steering/DeletePolicy", steering.DeletePolicyRequest(name="policies/none"), "name")
    yield missing("steering/PreviewPolicy", steering.PreviewPolicyRequest(name="policies/none"), "name")
    yield missing("steering/StopSteering", steering.StopSteeringRequest(model=model, reason="x"), "model")


def bad_wholes() -> Iterator[tuple[str, Bad]]:
    yield "no op", Bad("activation/Predict", predict(edits=edits()), "edits.edits[0]")
    odd = edits(scale=1, relative_to_max=True)
    yield "relative scale", Bad("activation/Predict", predict(edits=odd), "edits.edits[0].relative_to_max")
    other = edits(layer="models/emoji-vit/layers/norm", scale=0)
    yield "other model's layer", Bad("activation/Predict", predict(edits=other), "edits.edits[0].layer")
    yield "layer twice", Bad("activation/CaptureActivations", capture(layers=[LAYER, LAYER]), "layers")
    yield "no layers", Bad("activation/CaptureActivations", capture(layers=[]), "layers")
    yield "no units", Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(), "units")
    many = [UNIT] * 1001
    yield "1001 units", Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=many), "units")
    yield "1001 units", Bad("retrieval/DescribeUnits", describe_units(units=many), "units")
    yield "no units", Bad("retrieval/DescribeUnits", describe_units(units=[]), "units")
    mixed = [UNIT, "models/emoji-vit/layers/norm/units/0"]
    yield "two models", Bad("retrieval/DescribeUnits", describe_units(units=mixed), "units[1]")
    yield "no policy", Bad("steering/CreatePolicy", steering.CreatePolicyRequest(), "policy")
    yield "no policy", Bad("steering/UpdatePolicy", steering.UpdatePolicyRequest(), "policy")
    yield "no subject", Bad("steering/PreviewPolicy", steering.PreviewPolicyRequest(), "name")
    yield "no steering", Bad("steering/CreatePolicy", create(edits=None), "policy")
    yield "no edits", Bad("steering/CreatePolicy", create(edits=resources_pb2.EditList()), "policy.edits.edits")
    unscaled = create(edits=None, concept=steering.ConceptSteering(text="dog"))
    yield "no scale", Bad("steering/CreatePolicy", unscaled, "policy.concept.scale")
    preview = steering.PreviewPolicyRequest(policy=create().policy, target_label="no such label")
    yield "label", Bad("steering/PreviewPolicy", preview, "target_label")
    crowd = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=LAYER, scale=0)] * 1025)
    yield "1025 edits", Bad("activation/Predict", predict(edits=crowd), "edits.edits", "RESOURCE_EXHAUSTED")
    yield (
        "builtin",
        Bad("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name="vocabularies/emoji"), "name"),
    )


def bad_features() -> Iterator[tuple[str, Bad]]:
    features = f"{LAYER}/dictionaries/topk-512"
    mixed_up = (f"{features}/units/0", f"{LAYER}/features/0", f"{features}/features/-1", f"{features}/features/",
                f"{features}/dictionaries/x/features/0", f"{LAYER}/dictionaries/features/0",
                f"{features}/0")  # fmt: skip
    for value in mixed_up:
        name = value.removeprefix(f"{MODEL}/layers/")
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[UNIT, value]), "units[1]")
        yield name, Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[value]), "units[0]")
        yield name, Bad("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=value), "name")
    missing = (f"{LAYER}/dictionaries/none", f"{MODEL}/layers/logits/dictionaries/topk-512",
               f"{MODEL}/layers/topk-512", f"{MODEL}/layers/layer3/dictionaries/topk-512")  # fmt: skip
    for value in missing:
        name, unknown = value.removeprefix(f"{MODEL}/layers/"), "NOT_FOUND"
        feature = f"{value}/{'features' if 'dictionaries' in value else 'units'}/0"
        yield name, Bad("activation/CaptureActivations", capture(layers=[LAYER, value]), "layers[1]", unknown)
        layer = predict(edits=edits(layer=value, scale=0))
        yield name, Bad("activation/Predict", layer, "edits.edits[0].layer", unknown)
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[feature]), "units[0]", unknown)
        yield name, Bad("retrieval/LocalizeConcepts", localize(layers=[value]), "layers[0]", unknown)
        yield name, Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=value), "parent", unknown)
        yield name, Bad("steering/CreatePolicy", concept(layers=[value]), "policy.concept.layers[0]", unknown)
    twice = f"{features}/dictionaries/topk-512"
    yield "nested", Bad("activation/CaptureActivations", capture(layers=[twice]), "layers[0]")
    yield "nested", Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=twice), "parent")
    for unit in (512, UINT32):
        beyond = edits(layer=features, unit=unit, scale=0)
        yield f"feature {unit}", Bad("activation/Predict", predict(edits=beyond), "edits.edits[0].unit")
    beyond_name = retrieval_pb2.GetUnitRequest(name=f"{features}/features/512")
    yield "feature 512", Bad("retrieval/GetUnit", beyond_name, "name")
    for neuron in (edits(scale=1, reconstruct=True), edits(clamp=1, relative_to_max=True, reconstruct=True)):
        yield "neuron", Bad("activation/Predict", predict(edits=neuron), "edits.edits[0].reconstruct")
        yield "neuron", Bad("activation/CaptureActivations", capture(edits=neuron), "edits.edits[0].reconstruct")
        yield "neuron", Bad("steering/CreatePolicy", create(edits=neuron), "policy.edits.edits[0].reconstruct")
    for layers in ([], [LAYER], [features, LAYER]):
        found = concept(layers=layers, reconstruct=True, top_k=600)
        yield "neurons", Bad("steering/CreatePolicy", found, "policy.concept.reconstruct")


CASES = [
    pytest.param(bad, id=f"{bad.rpc}-{name}-{number}")
    for source in (bad_images, bad_numbers, bad_texts, bad_names, unknown_names, bad_wholes, bad_features)
    for number, (name, bad) in enumerate(source())
]

GOOD_CALLS = {
    "activation": ("activation/Predict", predict()),
    "aligner": ("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["dog"])),
    "retrieval": ("retrieval/DescribeUnits", describe_units()),
    "steering": ("steering/ListPolicies", steering.ListPoliciesRequest()),
}

INTERNAL = re.compile(
    r"Traceback|File \"|/work|/tmp|/home|/root|/usr|site-packages|\.py\b|pid=|0x[0-9a-f]{6,}|ray::|\bactor|Exception|redis://"
)


@pytest.mark.parametrize("bad", CASES)
def test_bad_input_is_refused_with_its_field_and_the_next_request_succeeds(wire: Any, bad: Bad) -> None:
    refusal = wire.refusal(bad.rpc, bad.request)
    assert refusal.code == bad.code, refusal.message
    assert any(field.startswith(bad.field) for field in refusal.fields or [""]), (refusal.fields, refusal.message)
    assert refusal.fields or not bad.field
    assert not bad.allowed or refusal.allowed, refusal.message
    assert refusal.reason
    assert refusal.message
    assert len(refusal.message) <= 1024
    assert not INTERNAL.search(refusal.message + refusal.trailing), refusal
    wire.call(*GOOD_CALLS[bad.rpc.split("/")[0]], timeout=20)


def test_every_rpc_that_takes_anything_is_among_the_cases() -> None:
    covered = {case.values[0].rpc for case in CASES}
    for application in ("activation", "aligner", "retrieval", "steering"):
        module = __import__(f"miclip.v1.{application}_pb2", fromlist=["DESCRIPTOR"])
        for method in module.DESCRIPTOR.services_by_name[f"{application.capitalize()}Service"].methods:
            assert f"{application}/{method.name}" in covered


def test_a_malformed_message_shows_nothing_internal(server: Any) -> None:
    import grpc

    with grpc.insecure_channel(server.grpc_endpoint) as channel:
        metadata = [("application", "activation"), ("authorization", f"Bearer {server.api_key}")]
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/miclip.v1.ActivationService/Predict")(b"\xff" * 40, metadata=metadata, timeout=10)
    assert caught.value.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
    assert not re.search(r"Traceback|File \"|/work|/tmp|site-packages|pid=", caught.value.details())
