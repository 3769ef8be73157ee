"""What a target model's forward pass is taken apart with: hooks on modules, and gradients of the predicted margin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from miclip.errors import InvalidInput

Change = Callable[[str, Tensor], Tensor]
"""Name of a base layer and its output → what the rest of the model sees."""


def margin_gradients(logits: Tensor, gains: dict[str, Tensor], classes: Tensor | None = None) -> dict[str, Tensor]:
    """Return the gradient of each row's ``logit_ĉ − mean_k logit_k`` by layer; zero where a layer has no influence."""
    if not gains:
        return {}
    predicted = logits.argmax(dim=1, keepdim=True) if classes is None else classes.to(logits.device)[:, None]
    margin = logits.gather(1, predicted).squeeze(1) - logits.mean(dim=1)
    grads = torch.autograd.grad(margin.sum(), tuple(gains.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(gains, grads, strict=True))


def plain(x: Tensor) -> Tensor:
    """Return a float32 copy on the CPU."""
    return x.to("cpu", torch.float32, copy=True)


def recorder(shapes: dict[str, tuple[int, ...]]) -> Change:
    """Return a change that changes nothing and notes the shape of every output in ``shapes``."""

    def record(path: str, x: Tensor) -> Tensor:
        shapes[path] = tuple(x.shape)
        return x

    return record


def first_tensor(output: Any) -> Tensor | None:
    """Return a module's output, or the first of several where that is a tensor (a block that adds its attention)."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


def logits_of(output: Any) -> Tensor:
    """Return the logits in what a classifier gives: the tensor, or its ``logits`` as transformers' classifiers do it.

    Raises:
        InvalidInput: the output is neither.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        keys = f" with {', '.join(map(str, list(output)[:8]))}" if isinstance(output, Mapping) else ""
        text = f"model: its output is a {type(output).__name__}{keys}, not logits. Return a tensor [B, K]."
        raise InvalidInput(text, field="model", allowed="a tensor [B, K], or an output that has one as `logits`")
    return logits


@contextmanager
def hooked(module: nn.Module, layer: str, change: Change) -> Iterator[None]:
    """Put ``change`` behind a module for a while.

    Of several outputs the first is changed. A forward pass raises InvalidInput where that is no tensor.
    """

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        first = first_tensor(output)
        if first is None:
            raise InvalidInput(f"{layer!r} cannot be a layer: its output is not one tensor.", field="layers")
        changed = change(layer, first)
        return changed if output is first else type(output)((changed, *output[1:]))

    handle: RemovableHandle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
