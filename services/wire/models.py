"""What an atlas lacks: told apart from what does not exist at all, by asking the activation service."""

from __future__ import annotations

from collections.abc import Iterable

from miclip.atlas import Atlas
from miclip.errors import NotAligned, NotFound
from miclip.names import LayerName, ModelName, parse_layer
from miclip.v1 import activation_pb2
from services.rpc import Peer
from services.state.atlas_holder import AtlasHolder, Value
from services.wire.layers import no_layer


class KnownModels:
    """The models that there are.

    Args:
        activation: The activation service.
    """

    def __init__(self, activation: Peer) -> None:
        self._activation = activation

    async def get(self, name: ModelName, field: str) -> activation_pb2.Model:
        """A model with its layers; raises NotFound naming the models there are."""
        try:
            answer = await self._activation.call("GetModel", activation_pb2.GetModelRequest(name=str(name)))
        except NotFound as error:
            error.rename(field)
            raise
        model: activation_pb2.Model = answer.model
        return model

    async def held(self, holder: AtlasHolder[Value], model: str, field: str) -> Value:
        """What is held of the model's active atlas.

        Raises:
            NotFound: there is no such model.
            NotAligned: it has no atlas.
            BadArtefact: its atlas cannot be opened.
        """
        try:
            return await holder.get(model)
        except NotAligned as error:
            await self.get(ModelName(model), field)
            raise NotAligned(error.message, field=field) from error

    async def check_layers(self, atlas: Atlas, layers: Iterable[tuple[str, LayerName]]) -> list[LayerName]:
        """Return layers, each given with the field that names it, if an atlas covers them.

        No more of ``layers`` is read than up to the first one that it does not cover.

        Raises:
            NotFound: the model has no such layer.
            NotAligned: it has, but the atlas lacks it.
        """
        covered = []
        for field, layer in layers:
            if layer.layer in atlas.layer_names:
                covered.append(layer)
                continue
            model = await self.get(ModelName(layer.model), field)
            names = layer_ids(model)
            if layer.layer not in names:
                raise no_layer(layer, names, field)
            allowed = ", ".join(atlas.layer_names)
            text = f"{field}: layer {layer.layer} of models/{layer.model} is not in its atlas, which has {allowed}."
            raise NotAligned(text, field=field, allowed=allowed)
        return covered


def layer_ids(model: activation_pb2.Model) -> list[str]:
    """The layers' own names, from the input to the logits."""
    return [parse_layer(layer.name).layer for layer in model.layers]
