"""The model that is attached: its modules, its layers, and how edits reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from miclip.errors import BadArtefact, InvalidInput, NotFound
from miclip.models.features import edit_features
from miclip.models.layers import LOGITS
from miclip.models.sae import SparseAutoencoder
from miclip.models.target import TargetModel
from miclip.models.weights import state_sha256
from miclip.names import base_layer, is_dictionary_layer, parse_layer
from miclip.steering.apply import apply_edits
from miclip.steering.edits import EditBatch
from miclip.v1 import activation_pb2

_Axis = Callable[[str, Tensor], int]


class Subject:
    """A model whose layers are edited as the activation service edits them.

    Args:
        module: The network; its inputs and outputs have the batch first.
        modules: What to hook, by name of the layer; the logits are the network's own output.
        layer_sizes: Units by name of every layer that can be edited.
        dictionaries: By name of the layer of their features.
        unit_axis: Which axis of a layer's output counts the units.
    """

    def __init__(
        self,
        module: nn.Module,
        modules: Mapping[str, nn.Module],
        layer_sizes: Mapping[str, int],
        dictionaries: Mapping[str, SparseAutoencoder],
        unit_axis: _Axis,
    ) -> None:
        self.module, self.modules, self.layer_sizes = module, modules, layer_sizes
        self._dictionaries, self._unit_axis = dictionaries, unit_axis

    def edited(self, base: str, output: object, edits: EditBatch, rows: int) -> Tensor | None:
        """A layer's output after the edits of the batch; None where it has none.

        Raises:
            InvalidInput: the output is not one tensor of ``rows`` rows with the layer's units.
        """
        on = [name for name, sae in self._dictionaries.items() if sae.base == base and name in edits.layers]
        if base not in edits.layers and not on:
            return None
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[0] != rows:
            text = f"{base!r} cannot be edited: its output is not one tensor of {rows} rows."
            raise InvalidInput(text, field="model")
        axis = self._unit_axis(base, output)
        if base in edits.layers:
            output = apply_edits(output, edits.layers[base].to(output.device), axis)
        for name in on:
            output, _ = edit_features(output, edits.layers[name].to(output.device), self._dictionaries[name], axis)
        return output


def subject_of(model: TargetModel | nn.Module, served: activation_pb2.Model, channels_last: bool | None) -> Subject:
    """A model with the layers that the server's policies can name; see ``attach``."""
    if isinstance(model, TargetModel):
        modules = {one.base: model.module.get_submodule(one.module) for one in model.layers.values() if one.module}
        axis: _Axis = lambda _, x: model.unit_axis(x)  # noqa: E731
        return Subject(model.module, modules, model.layer_sizes, model.dictionaries, axis)
    if isinstance(model, nn.DataParallel) or hasattr(model, "_orig_mod"):
        text = "model: attach the module itself, not what nn.DataParallel or torch.compile make of it."
        raise InvalidInput(text, field="model", allowed="a plain module")
    known = {parse_layer(layer.name).layer: layer.units for layer in served.layers}
    neurons = {name: units for name, units in known.items() if not is_dictionary_layer(name)}
    modules = {name: module for name, module in model.named_modules() if name in neurons}
    if not modules:
        allowed = ", ".join(neurons)
        raise NotFound(f"The module has none of the served model's layers: {allowed}.", field="model", allowed=allowed)
    sizes = {name: units for name, units in neurons.items() if name in modules or name == LOGITS}
    return Subject(model, modules, sizes, {}, _axis_of(sizes, channels_last))


def weights_of(model: TargetModel | nn.Module) -> str:
    """SHA-256 of the weights, as the server computes it."""
    return model.weights_sha256 if isinstance(model, TargetModel) else state_sha256(model.state_dict())


def check_same(model: TargetModel | nn.Module, weights_sha256: str, served: activation_pb2.Model) -> None:
    """Raise BadArtefact unless the server serves the same weights, and the same dictionaries."""
    if weights_sha256 != served.weights_sha256:
        raise BadArtefact(
            f"The weights of this model are not those that the server serves as {served.name}: their SHA-256 begins "
            f"with {weights_sha256[:12]}, not {served.weights_sha256[:12]}. Its policies name other units; load the "
            "same weights.",
            field="model",
        )
    own = model.dictionaries if isinstance(model, TargetModel) else {}
    theirs = {parse_layer(layer.name).layer: layer.dictionary.sha256 for layer in served.layers}
    for name, sae in own.items():
        if theirs.get(name, "") not in ("", sae.sha256):
            text = f"Dictionary {name!r} of this model is not the one that the server has; load the same."
            raise BadArtefact(text, field="model")


def _axis_of(sizes: Mapping[str, int], channels_last: bool | None) -> _Axis:
    """Finds the units of a plain module's outputs by their number, unless told where they are."""

    def axis(layer: str, x: Tensor) -> int:
        units, last = sizes[base_layer(layer)], x.ndim - 1
        if x.ndim == 4 and channels_last is None and x.shape[1] == x.shape[last]:
            text = f"{layer!r} is {list(x.shape)}, with {units} units either way: say whether channels_last."
            raise InvalidInput(text, field="channels_last", allowed="True or False")
        first = x.ndim == 4 and (x.shape[1] == units if channels_last is None else not channels_last)
        found = 1 if first else last
        if x.shape[found] != units:
            text = f"{layer!r} is {list(x.shape)}, but the served model has {units} units there."
            raise InvalidInput(text, field="model")
        return found

    return axis
