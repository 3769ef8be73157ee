"""A target model: named layers, preprocessing, and one forward path with capture and edits."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import cached_property

import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput, NotFound
from miclip.models.features import edit_features, encode_features, feature_gain, scale_features
from miclip.models.grid import to_grid
from miclip.models.hooks import Change, hooked, logits_of, margin_gradients, plain, recorder
from miclip.models.layers import LOGITS, Layer, LayerKind, Layout, Output, with_features
from miclip.models.preprocessing import Preprocessing
from miclip.models.sae import SparseAutoencoder
from miclip.models.weights import state_sha256
from miclip.steering.apply import apply_edits
from miclip.steering.edits import EditBatch

__all__ = ["LOGITS", "Layer", "LayerKind", "Layout", "Output", "TargetModel"]

_PLAIN = Layout()


class TargetModel:
    """A frozen vision model under study. One call runs at a time; further threads wait.

    Args:
        name: Catalogue id.
        model: Maps float32 ``[B,3,S,S]`` to ``[B,K]``, or to an output with such ``logits``. Frozen, put into
            evaluation mode and moved to ``device``.
        labels: Names of the ``K`` outputs.
        modules: Paths of the submodules to offer as layers, in order of depth.
        preprocessing: From images to inputs.
        layout: How the family lays out its activations.
        dictionaries: Sparse autoencoders on its layers; the features of each are a layer of their own.
        device: Where to run.

    Raises:
        NotFound: a module path does not exist in the model, or a dictionary is on none of its layers.
        InvalidInput: labels and outputs differ in number, or a layer's output is not a batch of units.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        *,
        labels: Sequence[str],
        modules: Sequence[str],
        preprocessing: Preprocessing,
        layout: Layout = _PLAIN,
        dictionaries: Sequence[SparseAutoencoder] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.labels, self.preprocess = name, tuple(labels), preprocessing
        self.device = torch.device(device)
        # channels last: convolutions then take about two thirds of the time
        frozen = model.eval().requires_grad_(False).to(self.device)
        self.module = frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._layout, self._lock = layout, threading.Lock()
        self._modules = {path: self._submodule(path) for path in modules}
        self.dictionaries = {sae.layer: sae.to(self.device) for sae in dictionaries}
        self.layers = with_features(self._find_layers(), dictionaries, name)

    @property
    def input_size(self) -> int:
        """Edge of the square input in pixels."""
        return self.preprocess.size

    @property
    def layout(self) -> Layout:
        """How it lays out its activations."""
        return self._layout

    @property
    def layer_sizes(self) -> dict[str, int]:
        """Units by layer name."""
        return {name: layer.units for name, layer in self.layers.items()}

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 (hex) over names, types, shapes and bytes of the state dict's tensors, sorted by name."""
        return state_sha256(self.module.state_dict())

    def with_dictionaries(self, dictionaries: Sequence[SparseAutoencoder]) -> TargetModel:
        """Return the same model with these dictionaries in place of its own; raises NotFound or InvalidInput."""
        made = TargetModel(
            self.name, self.module, labels=self.labels, modules=tuple(self._modules), preprocessing=self.preprocess,
            layout=self._layout, dictionaries=dictionaries, device=self.device,
        )  # fmt: skip
        if "weights_sha256" in self.__dict__:  # gigabytes need hashing only once
            made.__dict__["weights_sha256"] = self.weights_sha256
        return made

    def forward(self, images: Tensor, capture: Sequence[str] = (), edits: EditBatch | None = None) -> Output:
        """Run a batch; only captured and edited layers cost anything extra.

        Args:
            images: float32 ``[B,3,S,S]``, preprocessed; any device.
            capture: Names of layers to return.
            edits: Compiled for this batch; ``None`` or empty changes nothing, to the last bit.

        Returns:
            Logits and captured activations, both after edits.

        Raises:
            NotFound: a layer does not exist.
        """
        compiled = (edits or EditBatch()).to(self.device).layers
        self._check_layers((*capture, *compiled))
        kept: dict[str, Tensor] = {}

        def change(base: str, x: Tensor) -> Tensor:
            if base in compiled:
                x = apply_edits(x, compiled[base], self.unit_axis(x))
            edited: dict[str, Tensor] = {}
            for name in self._dictionaries_on(base, compiled):
                x, edited[name] = edit_features(x, compiled[name], self.dictionaries[name], self.unit_axis(x))
            if base in wanted:
                kept[base] = self._pool(x)
            for name in self._dictionaries_on(base, wanted):
                codes = encode_features(x, self.dictionaries[name], self.unit_axis(x)).values
                if name in edited:  # what the edit says, not what the dictionary would make of it again
                    codes = codes.index_copy(0, compiled[name].rows, edited[name])
                kept[name] = self._pool_codes(codes, x)
            return x

        wanted = set(capture)
        with torch.inference_mode():
            logits = self._run(self._inputs(images), wanted | compiled.keys(), change)
        # copies made outside inference mode are ordinary tensors, which may take part in training
        return Output(plain(logits), {layer: plain(kept[layer]) for layer in capture})

    def attribute(
        self, images: Tensor, layers: Sequence[str], *, gain: float = 1.0, classes: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Attribute the margin of the predicted label to the units of some layers, to first order.

        The attribution of a unit is ``∂(logit_ĉ − mean_k logit_k)/∂g`` at ``g = 1``, where ``g`` multiplies the unit at
        every position and ``ĉ`` is the predicted label: activation times gradient, summed over positions.

        Args:
            images: float32 ``[B,3,S,S]``, preprocessed; any device.
            layers: Names of layers.
            gain: Where the gradient is taken instead of at 1: every unit of all ``layers`` is multiplied by it.
            classes: Labels whose margin is attributed instead of the predicted, int64 ``[B]``.

        Returns:
            Logits ``[B,K]``, pooled activations and attributions ``[B,d]`` by layer; float32, on the CPU.

        Raises:
            NotFound: a layer does not exist.
        """
        self._check_layers(layers)
        gains: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}

        def change(base: str, x: Tensor) -> Tensor:
            at = x.detach()
            if base in asked:
                shape, axis = [1] * x.ndim, self.unit_axis(x)
                shape[0], shape[axis] = x.shape[0], x.shape[axis]
                gains[base] = torch.full(shape, gain, dtype=x.dtype, device=x.device, requires_grad=True)
                kept[base] = self._pool(at)
                x = x * gains[base]
            for name in self._dictionaries_on(base, asked):
                codes = encode_features(at, self.dictionaries[name], self.unit_axis(at))
                gains[name] = feature_gain(codes, gain)
                kept[name] = self._pool_codes(codes.values, x)
                x = scale_features(x, codes, gains[name], self.dictionaries[name], self.unit_axis(x))
            return x

        asked = set(layers)

        with torch.inference_mode(mode=False), torch.enable_grad():
            inputs = self._inputs(images)
            logits = self._run(inputs.clone() if inputs.is_inference() else inputs, set(layers), change)
            grads = margin_gradients(logits, gains, classes)
        return (
            plain(logits.detach()),
            {layer: plain(kept[layer]) for layer in layers},
            {layer: plain(grads[layer].flatten(1)) for layer in layers},
        )

    def positions(self, images: Tensor, layer: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return what every unit of a layer does at every position.

        The attribution is activation times gradient of the predicted label's margin; summed over the positions (and the
        prefix tokens, which have none) it is that of ``attribute``.

        Args:
            images: float32 ``[B,3,S,S]``, preprocessed; any device.
            layer: Name of a layer.

        Returns:
            Logits ``[B,K]``, activations and attributions ``[B,d,H,W]``; float32, on the CPU.

        Raises:
            NotFound: the layer does not exist.
            InvalidInput: its output has no positions.
        """
        self._check_layers((layer,))
        seen: list[Tensor] = []

        def change(_base: str, x: Tensor) -> Tensor:
            axis, sae = self.unit_axis(x), self.dictionaries.get(layer)
            if sae is None:
                seen[:] = [x.detach(), torch.ones_like(x, requires_grad=True)]
                changed = x * seen[1]
            else:
                codes = encode_features(x.detach(), sae, axis)
                gains = torch.ones_like(codes.values, requires_grad=True)
                seen[:] = [codes.values.movedim(-1, axis), gains]
                changed = scale_features(x, codes, gains, sae, axis)
            self._grid(seen[0], layer)  # a layer without positions is refused before the rest of the model runs
            return changed

        with torch.inference_mode(mode=False), torch.enable_grad():
            inputs = self._inputs(images)
            logits = self._run(inputs.clone() if inputs.is_inference() else inputs, {layer}, change)
            attributions = margin_gradients(logits, {layer: seen[1]})[layer]
        if layer in self.dictionaries:
            attributions = attributions.movedim(-1, self.unit_axis(seen[0]))
        return plain(logits.detach()), plain(self._grid(seen[0], layer)), plain(self._grid(attributions, layer))

    def vectors(self, images: Tensor, layer: str) -> Tensor:
        """Return the activation vectors of a layer of neurons at every position.

        Args:
            images: float32 ``[B,3,S,S]``, preprocessed; any device.
            layer: Name of a layer.

        Returns:
            float32 ``[B, P, d]`` on the CPU: ``P`` positions or tokens, 1 for a plain vector.

        Raises:
            NotFound: the layer does not exist.
        """
        self._check_layers((layer,))
        kept: list[Tensor] = []

        def change(_base: str, x: Tensor) -> Tensor:
            kept.append(plain(x.movedim(self.unit_axis(x), -1).reshape(x.shape[0], -1, self.layers[layer].units)))
            return x

        with torch.inference_mode():
            self._run(self._inputs(images), {layer}, change)
        return kept[0].clone()

    def _grid(self, x: Tensor, layer: str) -> Tensor:
        return to_grid(x, layer, prefix_tokens=self._layout.prefix_tokens, channels_last=self._layout.channels_last)

    def _run(self, images: Tensor, layers: set[str], change: Change) -> Tensor:
        bases = {self.layers[layer].base for layer in layers}
        with self._lock, ExitStack() as hooks:
            for base in bases - {LOGITS}:
                hooks.enter_context(hooked(self._modules[self.layers[base].module], base, change))
            logits = logits_of(self.module(images))
            return change(LOGITS, logits) if LOGITS in bases else logits

    def _inputs(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _pool(self, x: Tensor) -> Tensor:
        """Return float32 ``[B, d]``."""
        x = x.float()
        if x.ndim == 4:
            return x.mean(dim=(1, 2) if self._layout.channels_last else (2, 3))
        if x.ndim == 3:
            return x[:, 0].clone() if self._layout.class_token else x[:, self._layout.prefix_tokens :].mean(dim=1)
        return x.clone()  # the model may go on to change it in place

    def _pool_codes(self, codes: Tensor, x: Tensor) -> Tensor:
        """Pool codes ``[B, ..., F]`` of the layer's output ``x`` as the layer is pooled; float32 ``[B, F]``."""
        if codes.ndim == 3 and codes.shape[1] == 1:  # of the class token alone
            return codes[:, 0].float()
        return self._pool(codes.movedim(-1, self.unit_axis(x)))

    def _dictionaries_on(self, base: str, names: Collection[str]) -> list[str]:
        """The dictionaries on a layer that are among ``names``, in the order of the model's layers."""
        return [name for name, sae in self.dictionaries.items() if sae.base == base and name in names]

    def unit_axis(self, x: Tensor) -> int:
        """Return which axis of a layer's output, batch first, counts the units."""
        return 1 if x.ndim == 4 and not self._layout.channels_last else x.ndim - 1

    def _check_layers(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.layers:
                allowed = ", ".join(self.layers)
                raise NotFound(f"{self.name!r} has no layer {name!r}; its layers are {allowed}.", allowed=allowed)

    def _submodule(self, path: str) -> nn.Module:
        try:
            return self.module.get_submodule(path)
        except AttributeError as error:
            raise NotFound(f"{self.name!r} has no module {path!r}.", field="layers") from error

    def _find_layers(self) -> dict[str, Layer]:
        """Learn kind and size of every layer from one dry run."""
        shapes: dict[str, tuple[int, ...]] = {}
        images = torch.zeros(2, 3, self.input_size, self.input_size, device=self.device)
        with torch.inference_mode(), ExitStack() as hooks:
            for path, module in self._modules.items():
                hooks.enter_context(hooked(module, path, recorder(shapes)))
            logits = logits_of(self.module(images))
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            outputs = " × ".join(str(size) for size in logits.shape[1:])
            text = f"{self.name!r} gives {outputs} outputs per image, but there are {len(self.labels)} labels."
            raise InvalidInput(text, field="labels", allowed="one label per output")
        layers = {path: Layer(path, self._kind(path, shapes.get(path)), self._units(shapes[path]), path)
                  for path in self._modules}  # fmt: skip
        return layers | {LOGITS: Layer(LOGITS, LayerKind.LOGITS, logits.shape[1], "")}

    def _kind(self, path: str, shape: tuple[int, ...] | None) -> LayerKind:
        if shape is None or len(shape) not in (2, 3, 4) or shape[0] != 2:
            text = f"{path!r} cannot be a layer: its output is {shape}, not a batch of vectors, tokens or feature maps."
            raise InvalidInput(text, field="layers", allowed="modules that give [B,d], [B,T,d] or [B,d,H,W]")
        return LayerKind.TOKENS if len(shape) == 3 else LayerKind.CHANNELS

    def _units(self, shape: tuple[int, ...]) -> int:
        return shape[1] if len(shape) == 4 and not self._layout.channels_last else shape[-1]
