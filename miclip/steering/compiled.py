"""A policy made ready for one model: once a version, not once a request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miclip.errors import InvalidInput, MiclipError, NotFound
from miclip.steering.edits import NO_EDITS, CompiledEdits, Edit, combined, compile_sample, fingerprint
from miclip.steering.policy import Policy

if TYPE_CHECKING:
    import torch

Check = Callable[[Sequence[Edit], Mapping[str, int]], None]
"""Raises MiclipError where edits cannot be made on layers of these sizes."""


@dataclass(frozen=True)
class CompiledPolicy:
    """One version of a policy, compiled for one model.

    Attributes:
        policy: The policy.
        edits: Its edits as tensors; empty where they change nothing, or there is a problem.
        fingerprint: Of the edits; empty where ``edits`` is.
        problem: Why the model cannot be edited so; ``None`` where it can.
    """

    policy: Policy
    edits: CompiledEdits = NO_EDITS
    fingerprint: str = ""
    problem: MiclipError | None = None


def compile_policy(
    policy: Policy, layer_sizes: Mapping[str, int], *, check: Check, device: torch.device | str | None = None
) -> CompiledPolicy:
    """Check, compile and fingerprint a policy for a model.

    Args:
        policy: The policy.
        layer_sizes: Units by layer name of the model.
        check: What is asked of the edits; see :func:`check_fit` and ``miclip.steering.edits.validate_edits``.
        device: Where the tensors go; CPU by default.
    """
    try:
        check(policy.edits, layer_sizes)
    except MiclipError as error:
        return CompiledPolicy(policy, problem=error)
    edits = compile_sample(policy.edits, device)
    return CompiledPolicy(policy, edits, fingerprint(policy.edits) if edits else "")


def check_fit(edits: Sequence[Edit], layer_sizes: Mapping[str, int]) -> None:
    """Check that a model has the units and that what is done to each is a number, whatever the limits here are.

    Raises:
        NotFound: a layer or unit does not exist.
        InvalidInput: the combined edits of a unit overflow.
    """
    for edit in edits:
        units = layer_sizes.get(edit.layer)
        if units is None:
            names = ", ".join(layer_sizes)
            raise NotFound(f"the attached model has no layer {edit.layer!r}; it has {names}.", field="policy")
        if edit.unit >= units:
            raise NotFound(f"{edit.layer!r} has {units} units, no unit {edit.unit}.", field="policy")
    for (layer, unit), affine in combined(edits).items():
        if not all(map(_is_float32, affine)):
            text = f"the combined edits of unit {unit} of {layer!r} overflow. Use smaller values."
            raise InvalidInput(text, field="policy")


def _is_float32(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= 3.4028234663852886e38
