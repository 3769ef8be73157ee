"""What a target model's forward pass is taken apart with: hooks on modules, and gradients of the predicted margin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


@contextmanager
def hooked(module: nn.Module, layer: str, change: Change) -> Iterator[None]:
    """Put ``change`` behind a module for a while; a forward pass raises InvalidInput where it gives no tensor."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise InvalidInput(f"{layer!r} cannot be a layer: its output is not one tensor.", field="layers")
        return change(layer, output)

    handle: RemovableHandle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
