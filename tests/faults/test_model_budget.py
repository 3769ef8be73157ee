"""A server that may keep one model at a time still answers for all, and refuses what can never fit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from safetensors.torch import save_file

from miclip.catalogue import Catalogue
from miclip.models.families import build_module
from miclip.v1 import activation_pb2 as pb

pytestmark = pytest.mark.slow

BYTES = 20_000_000


@pytest.fixture(scope="module")
def small_server(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with room for one model, whose catalogue also holds one of 45 MB."""
    folder = tmp_path_factory.mktemp("data")
    save_file(build_module("timm/resnet18", 3).state_dict(), folder / "large.safetensors")
    catalogue = Catalogue(imported=folder / "models")
    catalogue.import_model("large", "timm/resnet18", str(folder / "large.safetensors"), labels=["a", "b", "c"])
    limits = {"MICLIP_MAX_LOADED_MODELS": "1", "MICLIP_MODEL_BYTES": str(BYTES)}
    with start_server(MICLIP_INGRESS="python", MICLIP_DATA_DIR=str(folder), **limits) as running:
        yield running


@pytest.fixture
def small_wire(small_server: Any, wire_type: Any) -> Iterator[Any]:
    wire = wire_type(small_server.grpc_endpoint, small_server.api_key)
    yield wire
    wire.close()


def predict(wire: Any, model: str, dog: bytes) -> str:
    request = pb.PredictRequest(model=f"models/{model}", images=[dog])
    return str(wire.call("activation/Predict", request).results[0].predictions[0].label)


def test_every_model_is_listed_and_answers_though_one_fits(small_wire: Any, dog: bytes) -> None:
    listed = small_wire.call("activation/ListModels", pb.ListModelsRequest()).models
    assert [model.name for model in listed] == [f"models/{name}" for name in ("emoji-resnet", "emoji-vit", "large")]
    assert all(model.layers and model.weights_sha256 and model.input_size for model in listed)
    answers = [predict(small_wire, model, dog) for model in ("emoji-resnet", "emoji-vit") * 3]
    assert answers == answers[:2] * 3


def test_what_never_fits_is_refused_and_drives_nothing_out(small_wire: Any, dog: bytes) -> None:
    before = predict(small_wire, "emoji-vit", dog)
    request = pb.PredictRequest(model="models/large", images=[dog])
    refusal = small_wire.refusal("activation/Predict", request)
    assert (refusal.code, refusal.reason, refusal.fields) == ("RESOURCE_EXHAUSTED", "TOO_LARGE", ("model",))
    assert "MICLIP_MODEL_BYTES" in refusal.message
    assert predict(small_wire, "emoji-vit", dog) == before


def test_a_rush_for_several_models_is_answered_or_told_to_try_again(small_wire: Any, dog: bytes) -> None:
    def ask(turn: int) -> str:
        try:
            return predict(small_wire, ("emoji-resnet", "emoji-vit")[turn % 2], dog)
        except grpc.RpcError as error:
            return str(error.code().name)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    right = {predict(small_wire, model, dog) for model in ("emoji-resnet", "emoji-vit")}
    assert set(answers) <= {*right, "RESOURCE_EXHAUSTED"}
    assert right & set(answers)
