"""Plans of the activation service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from miclip.client.plan import (
    Image,
    Plan,
    Rpc,
    as_list,
    build,
    every_page,
    layer_name,
    qualified,
    read_images,
)
from miclip.errors import InvalidInput
from miclip.models.predictions import CaptureResult, PredictResult
from miclip.v1 import activation_pb2, resources_pb2
from miclip.wire.activation import read_capture_result, read_predict_result
from miclip.wire.edits import write_edit

if TYPE_CHECKING:  # at run time this would import torch, which a client need not have loaded
    from miclip.steering.edits import Edit

AnyEdit: TypeAlias = "Edit | resources_pb2.Edit"
"""An edit of the library, with the plain name of its layer, or of the protos, with the full name."""


def list_models() -> Plan[tuple[activation_pb2.Model, ...]]:
    """The target models that may be asked for, without their labels."""
    return (yield from every_page("activation", "ListModels", activation_pb2.ListModelsRequest(), "models"))


def get_model(model: str) -> Plan[activation_pb2.Model]:
    """A model's layers, unit counts and labels; raises NotFound."""
    request = build(activation_pb2.GetModelRequest, name=qualified("models", model))
    response: activation_pb2.GetModelResponse = yield Rpc("activation", "GetModel", request)
    return response.model


def get_limits(model: str) -> Plan[activation_pb2.Limits]:
    """What the server accepts: sizes, counts, times."""
    request = build(activation_pb2.GetModelRequest, name=qualified("models", model))
    response: activation_pb2.GetModelResponse = yield Rpc("activation", "GetModel", request)
    return response.limits


def predict(
    images: Iterable[Image],
    *,
    model: str,
    policy: str = "",
    edits: Sequence[AnyEdit] | None = None,
    include_baseline: bool = False,
    top_k: int | None = None,
) -> Plan[PredictResult]:
    """Classify images, steered or not.

    Args:
        images: Encoded images or paths of images.
        model: Target model.
        policy: Policy to steer by.
        edits: Edits to make instead of a policy's; needs a key with the scope ``steer``.
        include_baseline: Also return what the model says without steering.
        top_k: Labels of an image; default 5.

    Raises:
        InvalidInput: an image or edit is refused, or both ``policy`` and ``edits`` are given.
        NotFound: an unknown model, layer or policy.
        PermissionDenied: inline edits without the scope.
    """
    _one_steering(policy, edits)
    request = build(
        activation_pb2.PredictRequest,
        model=qualified("models", model),
        images=read_images(images),
        policy=qualified("policies", policy) or None,
        edits=None if edits is None else edit_list(model, edits),
        include_baseline=include_baseline,
        top_k=top_k,
    )
    response: activation_pb2.PredictResponse = yield Rpc("activation", "Predict", request)
    return read_predict_result(response)


def capture(
    images: Iterable[Image],
    *,
    model: str,
    layers: Sequence[str],
    policy: str = "",
    edits: Sequence[AnyEdit] | None = None,
    top_k: int | None = None,
) -> Plan[CaptureResult]:
    """Read pooled activations of layers, after the edits.

    Args:
        images: Encoded images or paths of images.
        model: Target model.
        layers: Plain or full names of layers.
        policy: Policy to steer by.
        edits: Edits to make instead of a policy's; needs a key with the scope ``steer``.
        top_k: Return only this many strongest units of a layer; default all, as arrays.

    Raises:
        InvalidInput: an image or edit is refused, or both ``policy`` and ``edits`` are given.
        NotFound: an unknown model, layer or policy.
        PermissionDenied: inline edits without the scope.
    """
    _one_steering(policy, edits)
    request = build(
        activation_pb2.CaptureActivationsRequest,
        model=qualified("models", model),
        images=read_images(images),
        layers=[layer_name(model, layer) for layer in as_list(layers)],
        policy=qualified("policies", policy) or None,
        edits=None if edits is None else edit_list(model, edits),
        top_k=top_k,
    )
    response: activation_pb2.CaptureActivationsResponse = yield Rpc("activation", "CaptureActivations", request)
    return read_capture_result(response, request.layers, strongest=top_k is not None)


def edit_list(model: str, edits: Iterable[AnyEdit]) -> resources_pb2.EditList:
    """The edits as a message, layers by their full names."""
    return build(resources_pb2.EditList, edits=[_edit(model, edit) for edit in edits])


def _edit(model: str, edit: AnyEdit) -> resources_pb2.Edit:
    return edit if isinstance(edit, resources_pb2.Edit) else write_edit(edit, model.removeprefix("models/"))


def _one_steering(policy: str, edits: Sequence[AnyEdit] | None) -> None:
    if policy and edits is not None:
        raise InvalidInput("Give either a policy or edits, not both.", field="edits")
