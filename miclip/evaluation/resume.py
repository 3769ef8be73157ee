"""Run a network from the middle: the part after a layer, as a function of that layer's output.

An intervention at a layer changes nothing before it. Thousands of interventions on the same images therefore share the
first part of the network, which is most of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn


class _Shallow(fx.Tracer):
    """Traces only the modules that contain the layer; every other module stays one opaque call."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._layer.startswith(module_qualified_name + ".")


def resume_from(network: nn.Module, layer: str) -> Callable[[Tensor], Tensor] | None:
    """Return ``f`` with ``network(x) == f(output of layer at x)``.

    Args:
        network: Any module in evaluation mode.
        layer: Qualified name of a submodule that is called once.

    Returns:
        The rest of the network, or None where it needs more than the layer's output (a skip connection around it) or
        cannot be traced; the caller then runs the whole network.
    """
    try:
        graph = _Shallow(layer).trace(network, concrete_args=_defaults(network))
    except Exception:  # control flow on values: torch.fx raises many types, and all mean "cannot be traced"
        return None
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        return None
    rest = _graph_after(graph, calls[0])
    return fx.GraphModule(network, rest) if rest is not None else None


def _defaults(network: nn.Module) -> dict[str, Any]:
    """The optional arguments of ``forward``, at their defaults: the networks here are called with images alone."""
    parameters = inspect.signature(network.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _graph_after(graph: fx.Graph, call: fx.Node) -> fx.Graph | None:
    rest = fx.Graph()
    known: dict[fx.Node, Any] = {call: rest.placeholder("activation")}
    after = False
    for node in graph.nodes:
        after = after or node is call
        if node in known:
            continue
        ready = all(source in known for source in node.all_input_nodes)
        if node.op == "output":
            if not ready:
                return None
            rest.output(fx.node.map_arg(node.args[0], known.__getitem__))
        elif ready and (node.op == "get_attr" or (after and node.all_input_nodes)):
            known[node] = rest.node_copy(node, known.__getitem__)
    return rest


@torch.inference_mode()
def layer_output(network: nn.Module, layer: str, images: Tensor, batch: int = 128) -> Tensor:
    """Return the layer's whole output (all positions) for ``images``."""
    outputs: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        for part in images.split(batch):
            network(part)
    finally:
        hook.remove()
    return torch.cat(outputs)
