"""What the services know of models."""

from __future__ import annotations

from miclip.v1 import activation_pb2
from services.wire.models import layer_ids


def test_layers_of_neurons_and_of_features_keep_their_whole_names() -> None:
    names = ["layer4", "layer4/dictionaries/topk-512", "blocks.2", "logits"]
    model = activation_pb2.Model(layers=[{"name": f"models/m/layers/{name}"} for name in names])
    assert layer_ids(model) == names
