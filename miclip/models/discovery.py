"""What can be learned of a module by running it once: its layers by default, and how it lays out its activations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput, MiclipError
from miclip.models.hooks import first_tensor, logits_of
from miclip.models.layers import Layout

_FEWEST, _MOST = 3, 48
_SHARE = 0.9
"""Share of the weights from which on a part of the model is taken apart further."""
_SHARE_ALONE = 0.5
"""The same of a part that is the only block."""
_STEM = ("embed", "patch", "stem", "conv_stem")
_PREFIX = 16
"""Most leading tokens that are taken for no patches."""
_POOLED_BY_FIRST = 0.3
"""Share of the logits' gradient on the first token from which on tokens are pooled by it."""
_PASSES_ON = (nn.Dropout, nn.Identity, nn.Flatten)


@dataclass(frozen=True)
class Part:
    """What one forward pass shows of a submodule.

    Attributes:
        path: Its path in the model.
        shape: Shape of its output, or of the first of several, for two images; None where that is no tensor.
        calls: How many times the pass called it.
        weights: How many weights it has.
        layers: How many matrices and kernels are among its parameters.
        is_logits: Whether its output is the model's.
    """

    path: str
    shape: tuple[int, ...] | None
    calls: int
    weights: int
    layers: int
    is_logits: bool

    @property
    def is_layer(self) -> bool:
        """Whether its output is a batch of vectors, tokens or feature maps that a unit can be read from and edited."""
        usual = self.shape is not None and len(self.shape) in (2, 3, 4) and self.shape[0] == 2
        return usual and self.calls == 1 and not self.is_logits


class Survey:
    """One forward pass of a module over two random images.

    Args:
        module: Maps float32 ``[B,3,S,S]`` to logits ``[B,K]``; put into evaluation mode.
        size: ``S``.

    Attributes:
        parts: Every submodule that was called, by path, in the order in which they answered.
        outputs: ``K``.

    Raises:
        InvalidInput: the pass fails, or gives no logits; the text says how.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        self.module, self.size = module.eval(), size
        calls: dict[str, list[tuple[int, ...] | None]] = {}
        last: dict[str, Tensor | None] = {}
        with torch.inference_mode(), ExitStack() as hooks:
            for path, part in module.named_modules():
                if path:
                    hooks.callback(part.register_forward_hook(_noter(path, calls, last)).remove)
            logits = run_trial(module, size)
        self.outputs = logits.shape[1]
        known = dict(module.named_modules())
        self.parts = {
            path: Part(path, shapes[-1], len(shapes), _weights(known[path]), _matrices(known[path]),
                       _same(last[path], logits))
            for path, shapes in calls.items()
        }  # fmt: skip

    def layers(self) -> tuple[str, ...]:
        """Return the default layers in order of depth: blocks or stages and the last norm, the penultimate last.

        Of a plain chain of layers it is what each convolution or linear map gives behind its norm and activation.

        Raises:
            InvalidInput: no submodule's output can be a layer.
        """
        found = _thin(self._without_stem(self._without_heads(self._steps(self._frontier()))))
        if not found:
            text = "layers: no submodule gives [B,d], [B,T,d] or [B,d,H,W]. Name layers that do: `miclip layers --all`."
            raise InvalidInput(text, field="layers", allowed="modules whose output has the batch first")
        layout = self.layout(found)
        return tuple(path for path in found if not _disagrees(self.parts[path].shape, layout))

    def layout(self, layers: Sequence[str]) -> Layout:
        """Return how these layers lay out activations: as most feature maps do, and the tokens of the last with any.

        Raises:
            InvalidInput: one is no layer.
        """
        for path in layers:
            if path not in self.parts or self.parts[path].shape is None:
                allowed = ", ".join(list(self.usable())[:_MOST])
                raise InvalidInput(f"layers: {path[:80]!r} is no layer of this model.", field="layers", allowed=allowed)
        shapes = [shape for path in layers if (shape := self.parts[path].shape)]
        tokens = [path for path in layers if len(self.parts[path].shape or ()) == 3]
        prefix = self._prefix(tokens[-1]) if tokens else 0
        return Layout(
            class_token=prefix > 0 and self._pooled_by_first(tokens[-1]),
            prefix_tokens=prefix,
            channels_last=sum(map(_channels_last, shapes)) > 0,
        )

    def check_layers(self, layers: Sequence[str], layout: Layout) -> None:
        """Raise InvalidInput where layers that were named cannot be read in one layout; the text names two."""
        wrong = [path for path in layers if _disagrees(self.parts[path].shape, layout)]
        if wrong:
            good = next((path for path in layers if path not in wrong), "the others")
            text = (f"layers: {wrong[0]!r} lays out its output otherwise than {good!r} (channels or tokens in other "
                    "places). Align them as two models: choose another --id for one.")  # fmt: skip
            raise InvalidInput(text, field="layers", allowed="layers of one layout")

    def usable(self) -> dict[str, tuple[int, ...]]:
        """Return the shape, without the batch, of every submodule that can be a layer."""
        return {path: part.shape[1:] for path, part in self.parts.items() if part.is_layer and part.shape}

    def _frontier(self) -> list[str]:
        """Take the model apart, heaviest part first, until its depth shows; returns paths in the order of answers."""
        found = self._open("")
        while part := self._next(found):
            found = [path for one in found for path in (self._open(part) if one == part else [one])]
        return [path for path in self.parts if path in set(found)]

    def _next(self, found: list[str]) -> str:
        """Return which part to take apart next; empty where none is to be.

        One whose own output is no layer; the heaviest while there are few layers, where it is nearly the whole model,
        or the only block and most of it; a head of several maps, the last of which alone gives the logits.
        """
        closed = [path for path in found if self._inside(path) and not self._is_head(path)]
        heads = [path for path in found if self._is_head(path) and self.parts[path].layers > 1]
        opaque = [path for path in closed if not self.parts[path].is_layer and self.parts[path].layers]
        if opaque:
            return opaque[0]
        heaviest = max(closed, key=self._weigh, default="")
        total = sum(self._weigh(path) for path in found if not self._is_head(path))
        few = sum(self.parts[path].is_layer for path in found) < _FEWEST
        share = _SHARE if len(closed) > 1 else _SHARE_ALONE
        if heaviest and (few or self._weigh(heaviest) > share * total):
            return heaviest
        return heads[0] if heads else ""

    def _open(self, path: str) -> list[str]:
        """The children of a module that the pass went through; of lists of modules their elements."""
        module = self.module.get_submodule(path)
        children = [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]
        went = [child for child in children if child in self.parts or self._inside(child)]
        return [part for child in went for part in ([child] if child in self.parts else self._open(child))]

    def _inside(self, path: str) -> bool:
        return any(other.startswith(f"{path}.") for other in self.parts)

    def _is_head(self, path: str) -> bool:
        return path in self.parts and self.parts[path].is_logits and self._inside(path)

    def _weigh(self, path: str) -> int:
        return _weights(self.module.get_submodule(path))

    def _steps(self, frontier: list[str]) -> list[str]:
        """Of every map and block, what the next one reads: behind its norm and activation."""
        found: list[str] = []
        block = False
        for path in frontier:
            part = self.parts[path]
            if not part.is_layer or isinstance(self.module.get_submodule(path), _PASSES_ON):
                continue
            if part.layers or not found:
                found.append(path)
                block = self._inside(path)
            elif self._follows(part, self.parts[found[-1]]):
                found[-1:] = [found[-1], path] if block and part.weights else [path]
        return found

    def _follows(self, part: Part, before: Part) -> bool:
        """Whether a part without matrices belongs to the one before: it gives the same units at the same positions.

        What pools tokens into a vector and has weights (the last norm) counts, too.
        """
        if part.shape == before.shape:
            return True
        return bool(part.weights and before.shape and part.shape and len(before.shape) == 3 and len(part.shape) == 2)

    def _without_heads(self, layers: list[str]) -> list[str]:
        """Leave out linear maps at the end that give as many values as there are logits, which are their mean."""
        while len(layers) > 1 and self._is_output(layers[-1]):
            layers = layers[:-1]
        return layers

    def _is_output(self, path: str) -> bool:
        return isinstance(self.module.get_submodule(path), nn.Linear) and self.parts[path].shape == (2, self.outputs)

    def _without_stem(self, layers: list[str]) -> list[str]:
        kept = [path for path in layers if not path.rpartition(".")[2].startswith(_STEM)]
        return kept if len(kept) >= _FEWEST else layers

    def _prefix(self, path: str) -> int:
        """How many leading tokens of a layer are no patches: what is over a square, or over the feature map before."""
        shape = self.parts[path].shape or (2, 1, 1)
        maps = [part.shape for part in self.parts.values() if part.shape and len(part.shape) == 4]
        edges = {edge for a, b, c in (sizes[1:] for sizes in maps) for edge, other in ((a, b), (b, c)) if edge == other}
        over = [shape[1] - edge**2 for edge in edges if edge > 1 and 0 <= shape[1] - edge**2 <= _PREFIX]
        squares = [count for count in range(_PREFIX + 1) if _is_square(shape[1] - count)]
        return min(over or squares, default=0)

    def _pooled_by_first(self, path: str) -> bool:
        """Whether the logits read the first token of a layer: by their gradient, or where that is zero always."""
        kept: list[Tensor] = []

        def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            first = first_tensor(output)
            if first is None:
                return output
            kept.append(first.detach().clone().requires_grad_())
            return kept[-1] if output is first else type(output)((kept[-1], *output[1:]))

        handle = self.module.get_submodule(path).register_forward_hook(cut)
        try:
            with torch.inference_mode(mode=False), torch.enable_grad():
                logits = run_trial(self.module, self.size)
                weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
                score = (logits * weights).sum()
                (grad,) = torch.autograd.grad(score, kept[-1], allow_unused=True, materialize_grads=True)
        finally:
            handle.remove()
        if not grad.any():
            return True
        sizes = grad.abs().sum(dim=(0, 2))
        return bool(sizes[0] > _POOLED_BY_FIRST * sizes.sum())


def run_trial(module: nn.Module, size: int) -> Tensor:
    """Run two random images; returns logits ``[2, K]``.

    Raises:
        InvalidInput: the pass fails, or its output is no batch of logits; the text says what to change.
    """
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        logits = logits_of(module(images))
    except MiclipError:
        raise
    except Exception as error:  # of code that is not ours
        raise _failed(module, size, error) from error
    if logits.ndim != 2 or logits.shape[0] != 2 or logits.shape[1] < 2:
        shape = " × ".join(map(str, logits.shape))
        text = f"model: two images give an output of {shape}, not 2 × K logits of K ≥ 2 classes."
        raise InvalidInput(text, field="model", allowed="a classifier that maps [B,3,S,S] to [B,K]")
    return logits


def _failed(module: nn.Module, size: int, error: Exception) -> InvalidInput:
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        text = (f"model: it takes images of {first.in_channels} channel(s); miclip gives RGB. Wrap it in a module that "
                "converts [B,3,S,S] first, for one channel images.mean(1, keepdim=True).")  # fmt: skip
    else:
        said = " ".join(str(error).split())[:200]
        text = (f"model: it fails on two images of 3 × {size} × {size}: {type(error).__name__}: {said}. "
                "Is --size its input size?")  # fmt: skip
    return InvalidInput(text, field="model", allowed="a model that maps [B,3,S,S] to [B,K]")


def _noter(path: str, calls: dict[str, list[tuple[int, ...] | None]], last: dict[str, Tensor | None]) -> Any:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        usable = tensor is not None and tensor.is_floating_point()
        calls[path] = [*calls.pop(path, []), tuple(tensor.shape) if tensor is not None and usable else None]
        last[path] = tensor if tensor is not None and tensor.ndim == 2 else None

    return note


def _same(output: Tensor | None, logits: Tensor) -> bool:
    return output is not None and output.shape == logits.shape and torch.equal(output, logits)


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _matrices(module: nn.Module) -> int:
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _channels_last(shape: Sequence[int]) -> int:
    """1 where a feature map has its channels last, -1 where first, 0 where it cannot be told from a square."""
    if len(shape) != 4 or (shape[1] == shape[2]) == (shape[2] == shape[3]):
        return 0
    return 1 if shape[1] == shape[2] else -1


def _disagrees(shape: Sequence[int] | None, layout: Layout) -> bool:
    """Whether a shape says that its layer is laid out otherwise than the model's layers are taken to be."""
    if shape is None or len(shape) == 2:
        return False
    if len(shape) == 4:
        return _channels_last(shape) == (-1 if layout.channels_last else 1)
    return layout.prefix_tokens > 0 and _is_square(shape[1]) and not _is_square(shape[1] - layout.prefix_tokens)


def _is_square(count: int) -> bool:
    return count > 1 and math.isqrt(count) ** 2 == count


def _thin(layers: Iterable[str]) -> list[str]:
    """At most ``_MOST``, evenly spread, the last among them."""
    every = list(layers)
    if len(every) <= _MOST:
        return every
    return [every[-1 - place * len(every) // _MOST] for place in range(_MOST)][::-1]
