"""A target model: named layers, preprocessing, and one forward path with capture and edits."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from miclip.errors import InvalidInput, NotFound
from miclip.models.grid import to_grid
from miclip.models.preprocessing import Preprocessing
from miclip.steering.apply import apply_edits
from miclip.steering.edits import EditBatch

LOGITS = "logits"
"""Name of the last layer of every model."""


class LayerKind(StrEnum):
    """What a layer's output is made of."""

    CHANNELS = "channels"
    """Feature maps ``[B,d,H,W]`` (or ``[B,H,W,d]``), pooled by the spatial mean; or a plain vector ``[B,d]``."""
    TOKENS = "tokens"
    """Tokens ``[B,T,d]``, pooled by the class token where the model pools by it, else by their mean."""
    LOGITS = "logits"
    """The model's output."""


@dataclass(frozen=True)
class Layer:
    """A layer that can be captured and edited.

    Attributes:
        name: Its name, dots of the module path kept.
        kind: What its output is made of.
        units: How many units ``d`` it has.
        module: Path of its module in the model; empty for the logits.
    """

    name: str
    kind: LayerKind
    units: int
    module: str


@dataclass(frozen=True)
class Layout:
    """How a family lays out its activations.

    Attributes:
        class_token: Tokens are pooled by the first one, not by their mean.
        prefix_tokens: Leading tokens that are no patches; the mean leaves them out.
        channels_last: Feature maps are ``[B,H,W,d]``.
    """

    class_token: bool = False
    prefix_tokens: int = 0
    channels_last: bool = False


@dataclass
class Output:
    """What a forward pass gives, on the CPU.

    Attributes:
        logits: float32 ``[B, K]``, after edits.
        activations: Pooled float32 ``[B, d]`` by captured layer, after edits.
    """

    logits: Tensor
    activations: dict[str, Tensor] = field(default_factory=dict)


_Change = Callable[[str, Tensor], Tensor]
"""Layer name and output → what the rest of the model sees."""


class TargetModel:
    """A frozen vision model under study. One call runs at a time; further threads wait.

    Args:
        name: Catalogue id.
        model: Maps float32 ``[B,3,S,S]`` to ``[B,K]``. Frozen, put into evaluation mode and moved to ``device``.
        labels: Names of the ``K`` outputs.
        modules: Paths of the submodules to offer as layers, in order of depth.
        preprocessing: From images to inputs.
        layout: How the family lays out its activations.
        device: Where to run.

    Raises:
        NotFound: a module path does not exist in the model.
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
        layout: Layout = Layout(),
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.labels, self.preprocess = name, tuple(labels), preprocessing
        self.device = torch.device(device)
        # channels last: convolutions then take about two thirds of the time
        frozen = model.eval().requires_grad_(False).to(self.device)
        self.module = frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._layout, self._lock = layout, threading.Lock()
        self._modules = {path: self._submodule(path) for path in modules}
        self.layers = self._find_layers()

    @property
    def input_size(self) -> int:
        """Edge of the square input in pixels."""
        return self.preprocess.size

    @property
    def layer_sizes(self) -> dict[str, int]:
        """Units by layer name."""
        return {name: layer.units for name, layer in self.layers.items()}

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 (hex) over names, types, shapes and bytes of the state dict's tensors, sorted by name."""
        return state_sha256(self.module.state_dict())

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

        def change(layer: str, x: Tensor) -> Tensor:
            if layer in compiled:
                x = apply_edits(x, compiled[layer], self._unit_axis(x))
            if layer in wanted:
                kept[layer] = self._pool(x)
            return x

        wanted = set(capture)
        with torch.inference_mode():
            logits = self._run(self._inputs(images), wanted | compiled.keys(), change)
        # copies made outside inference mode are ordinary tensors, which may take part in training
        return Output(_plain(logits), {layer: _plain(kept[layer]) for layer in capture})

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

        def change(layer: str, x: Tensor) -> Tensor:
            shape = [1] * x.ndim
            axis = self._unit_axis(x)
            shape[0], shape[axis] = x.shape[0], x.shape[axis]
            gains[layer] = torch.full(shape, gain, dtype=x.dtype, device=x.device, requires_grad=True)
            kept[layer] = self._pool(x.detach())
            return x * gains[layer]

        with torch.inference_mode(mode=False), torch.enable_grad():
            inputs = self._inputs(images)
            logits = self._run(inputs.clone() if inputs.is_inference() else inputs, set(layers), change)
            grads = _margin_gradients(logits, gains, classes)
        return (
            _plain(logits.detach()),
            {layer: _plain(kept[layer]) for layer in layers},
            {layer: _plain(grads[layer].flatten(1)) for layer in layers},
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

        def change(_layer: str, x: Tensor) -> Tensor:
            seen[:] = [x.detach(), torch.ones_like(x, requires_grad=True)]
            self._grid(x.detach(), layer)  # a layer without positions is refused before the rest of the model runs
            return x * seen[1]

        with torch.inference_mode(mode=False), torch.enable_grad():
            inputs = self._inputs(images)
            logits = self._run(inputs.clone() if inputs.is_inference() else inputs, {layer}, change)
            attributions = _margin_gradients(logits, {layer: seen[1]})[layer]
        return _plain(logits.detach()), _plain(self._grid(seen[0], layer)), _plain(self._grid(attributions, layer))

    def _grid(self, x: Tensor, layer: str) -> Tensor:
        return to_grid(x, layer, prefix_tokens=self._layout.prefix_tokens, channels_last=self._layout.channels_last)

    def _run(self, images: Tensor, layers: set[str], change: _Change) -> Tensor:
        with self._lock, ExitStack() as hooks:
            for layer in layers - {LOGITS}:
                hooks.enter_context(_hooked(self._modules[self.layers[layer].module], layer, change))
            logits: Tensor = self.module(images)
            return change(LOGITS, logits) if LOGITS in layers else logits

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

    def _unit_axis(self, x: Tensor) -> int:
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
                hooks.enter_context(_hooked(module, path, _recorder(shapes)))
            logits = self.module(images)
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


def state_sha256(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 (hex) over names, types, shapes and bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _margin_gradients(logits: Tensor, gains: dict[str, Tensor], classes: Tensor | None = None) -> dict[str, Tensor]:
    """Return the gradient of each row's ``logit_ĉ − mean_k logit_k`` by layer; zero where a layer has no influence."""
    if not gains:
        return {}
    predicted = logits.argmax(dim=1, keepdim=True) if classes is None else classes.to(logits.device)[:, None]
    margin = logits.gather(1, predicted).squeeze(1) - logits.mean(dim=1)
    grads = torch.autograd.grad(margin.sum(), tuple(gains.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(gains, grads, strict=True))


def _plain(x: Tensor) -> Tensor:
    """Return a float32 copy on the CPU."""
    return x.to("cpu", torch.float32, copy=True)


def _recorder(shapes: dict[str, tuple[int, ...]]) -> _Change:
    def record(path: str, x: Tensor) -> Tensor:
        shapes[path] = tuple(x.shape)
        return x

    return record


@contextmanager
def _hooked(module: nn.Module, layer: str, change: _Change) -> Iterator[None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise InvalidInput(f"{layer!r} cannot be a layer: its output is not one tensor.", field="layers")
        return change(layer, output)

    handle: RemovableHandle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
