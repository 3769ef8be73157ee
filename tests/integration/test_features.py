"""Features of the shipped dictionaries through every service: they are units of a layer like any other."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from miclip.catalogue import load_target
from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.client import MiclipClient, make_policy
from miclip.images import decode_image
from miclip.models.target import Output
from miclip.settings import settings
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint
from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as pb
from tests.names import RESNET_NAME as MODEL

BASE = f"{MODEL}/layers/layer4"
NAME = "layer4/dictionaries/topk-512"
LAYER = f"{MODEL}/layers/{NAME}"
FEATURES = 512


def in_library(image: bytes, edits: Sequence[Edit] = (), capture: Sequence[str] = ()) -> Output:
    """What the library makes of one image."""
    target = load_target("emoji-resnet", "cpu")
    inputs = target.preprocess(decode_image(image, field="x"))[None]
    return target.forward(inputs, capture, compile_edits([edits], target.layer_sizes))


def strongest(image: bytes, count: int = 3) -> list[int]:
    """The features that are most active on an image."""
    return [int(unit) for unit in in_library(image, capture=[NAME]).activations[NAME][0].topk(count).indices]


def messages(edits: Sequence[Edit]) -> resources_pb2.EditList:
    made = [
        resources_pb2.Edit(layer=f"{MODEL}/layers/{edit.layer}", unit=edit.unit, reconstruct=edit.reconstruct,
                           **{str(edit.op): edit.value})
        for edit in edits
    ]  # fmt: skip
    return resources_pb2.EditList(edits=made)


def predict(wire: Any, image: bytes, **steering: Any) -> Any:
    request = activation_pb2.PredictRequest(model=MODEL, images=[image], include_baseline=True, top_k=1000, **steering)
    return wire.call("activation/Predict", request)


def logits(predictions: Any) -> np.ndarray:
    return np.asarray([one.logit for one in sorted(predictions, key=lambda one: one.index)], np.float32)


def preview(wire: Any, **policy: Any) -> Any:
    request = pb.PreviewPolicyRequest(policy=pb.Policy(model=MODEL, **policy))
    return wire.call("steering/PreviewPolicy", request)


@pytest.fixture
def new_id() -> str:
    return f"f-{uuid.uuid4().hex[:10]}"


def test_the_model_names_its_dictionaries_with_what_was_measured_of_them(wire: Any) -> None:
    model = wire.call("activation/GetModel", activation_pb2.GetModelRequest(name=MODEL)).model
    (layer,) = [one for one in model.layers if one.name == LAYER]
    sae = load_target("emoji-resnet", "cpu").dictionaries[NAME]
    assert (layer.kind, layer.units, layer.aligned) == (resources_pb2.LAYER_KIND_FEATURES, FEATURES, True)
    assert (layer.dictionary.sha256, layer.dictionary.activation) == (sae.sha256, "topk")
    assert layer.dictionary.explained_variance == pytest.approx(sae.quality["explained_variance"])
    assert 0 < layer.dictionary.l0 <= layer.dictionary.k
    assert not any(one.HasField("dictionary") for one in model.layers if "/dictionaries/" not in one.name)


def test_codes_are_captured_as_the_library_computes_them(wire: Any, dog: bytes) -> None:
    request = activation_pb2.CaptureActivationsRequest(model=MODEL, images=[dog], layers=[BASE, LAYER])
    (image,) = wire.call("activation/CaptureActivations", request).results
    expected = in_library(dog, capture=["layer4", NAME]).activations
    assert [layer.layer for layer in image.layers] == [BASE, LAYER]
    np.testing.assert_allclose(image.layers[0].values, expected["layer4"][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(image.layers[1].values, expected[NAME][0], rtol=1e-3, atol=1e-4)
    request = activation_pb2.CaptureActivationsRequest(model=MODEL, images=[dog], layers=[LAYER], top_k=3)
    (image,) = wire.call("activation/CaptureActivations", request).results
    assert [one.unit for one in image.layers[0].strongest] == [f"{LAYER}/features/{unit}" for unit in strongest(dog)]


@pytest.mark.parametrize("reconstruct", [False, True])
def test_edits_of_features_are_made_as_the_library_makes_them(wire: Any, dog: bytes, reconstruct: bool) -> None:
    edits = [Edit(NAME, unit, Op.SCALE, 3.0, reconstruct) for unit in strongest(dog)]
    edits.append(Edit("layer4", 7, Op.ADD, 0.5))
    answer = predict(wire, dog, edits=messages(edits))
    found = logits(answer.results[0].predictions)
    np.testing.assert_allclose(found, in_library(dog, edits).logits[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits(answer.results[0].baseline), in_library(dog).logits[0], rtol=1e-4, atol=1e-4)
    assert answer.steering.fingerprint == fingerprint(edits)
    other = [Edit(one.layer, one.unit, one.op, one.value, one.layer == NAME and not reconstruct) for one in edits]
    assert not np.allclose(found, in_library(dog, other).logits[0], atol=1e-2)


def test_an_edit_that_changes_no_code_changes_nothing_unless_the_reconstruction_is_asked_for(
    wire: Any, dog: bytes
) -> None:
    for reconstruct, outcome in ((False, "NONE"), (True, "APPLIED")):
        edits = [Edit(NAME, 0, Op.SCALE, 1.0, reconstruct)]
        answer = predict(wire, dog, edits=messages(edits))
        before, after = (logits(getattr(answer.results[0], side)) for side in ("baseline", "predictions"))
        assert (before == after).all() is not reconstruct
        assert activation_pb2.SteeringOutcome.Name(answer.steering.outcome).endswith(outcome)


def test_what_is_captured_after_an_edit_is_what_the_edit_says(wire: Any, dog: bytes) -> None:
    (unit,) = strongest(dog, 1)
    edits = messages([Edit(NAME, unit, Op.CLAMP, 0.25)])
    request = activation_pb2.CaptureActivationsRequest(model=MODEL, images=[dog], layers=[LAYER], edits=edits)
    (image,) = wire.call("activation/CaptureActivations", request).results
    assert image.layers[0].values[unit] == pytest.approx(0.25, abs=1e-5)


def test_features_are_described_listed_and_embedded_by_their_names(wire: Any) -> None:
    names = [f"{LAYER}/features/{unit}" for unit in (5, 0, 511)] + [f"{BASE}/units/3"]
    described = wire.call("retrieval/DescribeUnits", retrieval_pb2.DescribeUnitsRequest(units=names))
    assert [one.unit for one in described.descriptions] == names
    assert list(described.provenance.layers) == [LAYER, BASE]
    embedded = wire.call("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=names)).embeddings
    for one in embedded:
        assert np.linalg.norm(one.values) == pytest.approx(1, abs=1e-3)
    listed = wire.call("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=LAYER, page_size=1000))
    assert listed.total_size == FEATURES
    assert [one.name for one in listed.units] == [f"{LAYER}/features/{unit}" for unit in range(FEATURES)]
    live = [one for one in listed.units if one.maximum > 0]
    assert len(live) > FEATURES / 2
    assert np.mean([one.fraction_nonzero for one in live]) < 0.9  # sparse, unlike neurons


def test_a_feature_is_read_with_its_images_and_its_neighbours(wire: Any) -> None:
    name = f"{LAYER}/features/5"
    unit = wire.call("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=name)).unit
    assert unit.name == name
    assert unit.top_images
    assert unit.neighbors
    assert all(near.unit.startswith(f"{LAYER}/features/") and near.unit != name for near in unit.neighbors)


def test_most_features_mean_something(wire: Any) -> None:
    names = [f"{LAYER}/features/{unit}" for unit in range(FEATURES)]
    described = wire.call("retrieval/DescribeUnits", retrieval_pb2.DescribeUnitsRequest(units=names)).descriptions
    labels = {one.concepts[0].concept for one in described if not one.abstained}
    assert len(labels) > 40  # of 128 classes


def test_a_concept_is_found_among_the_features_and_takes_them_away_with_it(wire: Any) -> None:
    request = retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=["dog"], layers=[LAYER], top_k=8)
    found = wire.call("retrieval/LocalizeConcepts", request)
    units = [one.unit for one in found.localizations[0].units]
    assert len(units) == 8 and all(unit.startswith(f"{LAYER}/features/") for unit in units)
    assert list(found.provenance.layers) == [LAYER]
    answer = preview(wire, concept=pb.ConceptSteering(text="dog", scale=0, top_k=8, layers=[LAYER]))
    receipt = answer.receipt
    assert [one.unit for one in receipt.units] == units
    assert receipt.target_label == "dog"
    assert receipt.target_change < -0.05
    assert receipt.target_change < receipt.random_target_change
    assert all(one.mean_after == pytest.approx(0, abs=1e-6) for one in receipt.units)
    assert any(one.mean_before > 0 for one in receipt.units)
    assert 0 < receipt.norm_change < 1


def test_both_kinds_of_units_are_searched_together(wire: Any) -> None:
    request = retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=["dog"], layers=[BASE, LAYER], top_k=40)
    (found,) = wire.call("retrieval/LocalizeConcepts", request).localizations
    kinds = {one.unit.rsplit("/", 2)[1] for one in found.units}
    assert kinds == {"units", "features"}


@pytest.mark.parametrize("reconstruct", [False, True])
def test_a_policy_of_features_is_stored_read_back_and_applied(
    wire: Any, dog: bytes, new_id: str, reconstruct: bool
) -> None:
    concept = pb.ConceptSteering(text="dog", scale=2, top_k=4, layers=[LAYER], reconstruct=reconstruct)
    request = pb.CreatePolicyRequest(policy_id=new_id, policy=pb.Policy(model=MODEL, concept=concept))
    policy = wire.call("steering/CreatePolicy", request).policy
    assert wire.call("steering/GetPolicy", pb.GetPolicyRequest(name=policy.name)).policy == policy
    assert not policy.concept.evidence.doubtful
    concept.evidence.CopyFrom(policy.concept.evidence)  # the server's; all else as it was sent
    assert policy.concept == concept
    assert [(one.layer, one.reconstruct) for one in policy.resolved_edits] == [(LAYER, reconstruct)] * 4
    edits = [Edit(NAME, one.unit, Op.SCALE, 2.0, reconstruct) for one in policy.resolved_edits]
    answer = predict(wire, dog, policy=policy.name)
    expected = in_library(dog, edits).logits[0]
    np.testing.assert_allclose(logits(answer.results[0].predictions), expected, rtol=1e-3, atol=1e-3)
    assert answer.steering.fingerprint == fingerprint(edits)


def test_a_value_relative_to_the_maximum_keeps_the_reconstruction(wire: Any) -> None:
    edit = resources_pb2.Edit(layer=LAYER, unit=5, clamp=2, relative_to_max=True, reconstruct=True)
    (made,) = preview(wire, edits=resources_pb2.EditList(edits=[edit])).resolved_edits
    maximum = wire.call("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=f"{LAYER}/features/5")).unit.maximum
    assert made.reconstruct and not made.relative_to_max
    assert made.clamp == pytest.approx(2 * maximum, rel=1e-5)


def test_the_norm_limit_of_features_is_about_the_layer_that_they_are_on(wire: Any, new_id: str) -> None:
    replaced = messages([Edit(NAME, 0, Op.SCALE, 1.0, reconstruct=True)])  # changes the layer, but no code
    change = preview(wire, edits=replaced).receipt.norm_change
    assert 0 < change < 1
    for limit, code in ((change / 10, "INVALID_ARGUMENT"), (10.0, "")):
        policy = pb.Policy(model=MODEL, edits=replaced, norm_limit=limit)
        request = pb.CreatePolicyRequest(policy_id=new_id, policy=policy)
        if code:
            refusal = wire.refusal("steering/CreatePolicy", request)
            assert (refusal.code, refusal.fields) == (code, ("policy.norm_limit",))
        else:
            wire.call("steering/CreatePolicy", request)


def test_the_client_takes_plain_names_of_dictionaries(server: Any, dog: bytes) -> None:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as client:
        assert client.capture([dog], model="emoji-resnet", layers=[NAME]).activations[LAYER].shape == (1, FEATURES)
        described = client.describe(layer=LAYER, top_k=1).descriptions
        assert [str(one.name) for one in described] == [f"{LAYER}/features/{unit}" for unit in range(FEATURES)]
        (found,) = client.localize("dog", model="emoji-resnet", layers=[NAME]).localizations
        assert all(one.layer == NAME for one in found.units)
        edits = [Edit(NAME, strongest(dog, 1)[0], Op.SCALE, 0.0, reconstruct=True)]
        steered = client.predict([dog], model="emoji-resnet", edits=edits)
        assert steered.steering.fingerprint == fingerprint(edits)
        policy = make_policy(model="emoji-resnet", concept="dog", scale=0, layers=[NAME], reconstruct=True)
        assert all(edit.reconstruct for edit in client.preview_policy(policy).edits)


@pytest.fixture
def command(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a command where the server is; returns its JSON value, or its message where it fails."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        return json.loads(result.stdout) if result.exit_code == 0 else result.stderr

    yield run
    settings.cache_clear()


def test_commands_answer_the_same_with_a_server_and_without(command: Any) -> None:
    image, short = str(example_image()), "layer4@topk-512"
    for arguments in (
        ("describe", f"{short}/12", "layer4/dictionaries/topk-512/13", f"emoji-resnet/{short}/14"),
        ("localize", "dog", "--layer", short),
        ("predict", image, "--steer", "dog=2", "--layer", short),
        ("predict", image, "--steer", "dog=2", "--layer", short, "--reconstruct"),
        ("predict", image, "--steer", f"{short}/3*0", "--steer", "layer4/7+0.5"),
    ):
        assert _rounded(command(*arguments)) == _rounded(command(*arguments, "--local")), arguments


def test_the_command_line_makes_policies_of_features(command: Any, new_id: str) -> None:
    made = command("steer", "create", new_id, "dog=2.0", "--layer", "layer4@topk-512", "--reconstruct")
    assert [(edit["layer"], edit["reconstruct"]) for edit in made["edits"]] == [(NAME, True)] * 5
    shown = command("steer", "preview", f"policies/{new_id}")
    assert [unit["unit"] for unit in shown["units"]] == [f"{LAYER}/features/{edit['unit']}" for edit in made["edits"]]
    by_hand = command("steer", "preview", "layer4@topk-512/3*0", "--target", "dog")
    assert by_hand["edits"][0]["layer"] == NAME
    refused = command("steer", "preview", "dog=2.0", "--reconstruct")
    assert "policy.concept.reconstruct" in refused and "neuron" in refused
    assert "--reconstruct" in command("steer", "preview", "layer4/3*0", "--reconstruct")


def _rounded(value: Any) -> Any:
    """Numbers to two decimals: a batch of another size rounds differently."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items() if key != "fingerprint"}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 2) if isinstance(value, float) else value
