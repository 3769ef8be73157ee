"""Attach a model to a server."""

from __future__ import annotations

import contextlib
import weakref

from torch import nn

from miclip.attach._follow import Follower
from miclip.attach._followed import FollowedPolicies
from miclip.attach._steering import Steering, full_name
from miclip.attach._subject import check_same, subject_of, weights_of
from miclip.client import MiclipClient
from miclip.errors import AlreadyExists, InvalidInput
from miclip.models.target import TargetModel
from miclip.names import parse_model

_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def attach(
    model: TargetModel | nn.Module,
    name: str = "",
    *,
    policy: str = "",
    client: MiclipClient | None = None,
    channels_last: bool | None = None,
    verify_weights: bool = True,
    timeout_s: float = 10.0,
) -> Steering:
    """Steer a model by the policies of a server until the result is closed.

    Every forward pass of the module, wherever it is called, is steered from now on. Only calls of the module count
    (``model(x)``, not ``model.forward(x)``), in the thread that made the call.

    Args:
        model: A model of the catalogue, or any module that has the served model's layers by the same names. Only a
            ``TargetModel`` has dictionaries, and can take edits of features.
        name: Id of the served model; default that of a ``TargetModel``.
        policy: Name or id of the policy for all rows; default none, for ``Steering.using`` to choose. There need not be
            one of that name yet, or any more: nothing is steered then.
        client: Calls the server, with a key of scope ``read``; stays open. Default a new one for the local server.
        channels_last: Of a plain module: whether its feature maps are ``[B,H,W,d]``; default by the number of units.
        verify_weights: Refuse a model whose weights, or dictionaries, are not those that are served. Without it units
            may mean anything: only for a model that was converted, for example to half precision.
        timeout_s: How long the server may take to say what policies there are.

    Raises:
        NotReady: the server does not answer in time.
        NotFound: it serves no such model, or the module has none of its layers.
        BadArtefact: the weights or dictionaries differ.
        AlreadyExists: the module is attached already.
        InvalidInput: the name is missing, or the module is a wrapper that hooks do not reach.
    """
    name = name or (model.name if isinstance(model, TargetModel) else "")
    if not name:
        raise InvalidInput("name: say which model of the server this is.", field="name", allowed="id of a model")
    name = parse_model(name if name.startswith("models/") else f"models/{name}", field="name").model
    chosen = full_name(policy or None, "policy")
    module = model.module if isinstance(model, TargetModel) else model
    if module in _attached:
        raise AlreadyExists("This model is attached already; close that first.", field="model")
    with contextlib.ExitStack() as opened:
        server = client or opened.enter_context(MiclipClient())
        served = server.get_model(name)
        subject = subject_of(model, served, channels_last)
        sha256 = weights_of(model) if verify_weights else ""

        def verify() -> None:
            if verify_weights:
                check_same(model, sha256, server.with_options(attempts=1, timeout_s=timeout_s).get_model(name))

        if verify_weights:
            check_same(model, sha256, served)
        followed = FollowedPolicies(subject.layer_sizes)
        follower = Follower(server, name, followed, verify)
        follower.start(timeout_s)
        _attached.add(module)
        opened.callback(_attached.discard, module)
        return Steering(subject, followed, follower, name, chosen, opened.pop_all())
