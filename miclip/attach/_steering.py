"""An attached model: which policy each row of a forward pass gets, and the hooks that make its edits."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from miclip.attach._follow import Follower
from miclip.attach._followed import FollowedPolicies, State
from miclip.attach._subject import Subject
from miclip.client import AppliedSteering
from miclip.errors import InvalidInput
from miclip.models.layers import LOGITS
from miclip.names import parse_id
from miclip.steering.decision import NOT_STEERED, Decision, Outcome, SteeredRequest, decide, is_stopped
from miclip.steering.edits import CompiledEdits, EditBatch, assemble
from miclip.steering.policy import Policy

_DETACH_S = 30.0

log = logging.getLogger("miclip.attach")

Names = str | Sequence[str | None] | None
"""One policy for all rows of a batch, one for each, or none."""


@dataclass(frozen=True)
class Choice:
    """What to steer by: names of policies, and ids of requests."""

    policies: Names = None
    request_ids: str | Sequence[str] | None = None


@dataclass
class Pass:
    """One forward pass: fixed when it starts."""

    rows: int
    edits: EditBatch


class Steering:
    """What ``attach`` returns; a context manager. Forward passes may run in any number of threads.

    Args:
        subject: The model.
        followed: What the server said.
        follower: Keeps it up to date.
        model: Id of the served model.
        policy: Full name of the policy for all rows where ``using`` says nothing else; None for none.
        opened: What to close with it.
    """

    def __init__(
        self,
        subject: Subject,
        followed: FollowedPolicies,
        follower: Follower,
        model: str,
        policy: str | None,
        opened: ExitStack,
    ) -> None:
        self._subject, self._followed, self._follower, self._model = subject, followed, follower, model
        self._default, self._choice = Choice(policy), ContextVar[Choice | None]("miclip_choice", default=None)
        self._opened, self._missing = opened, set[str]()
        self._local, self._running, self._idle = threading.local(), set[int](), threading.Condition()
        self._closed = False
        self._handles = self._hook()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detach: wait for the passes under way, remove every hook, end the thread; more than once is no error."""
        with self._idle:
            self._closed = True
            others = self._running - {threading.get_ident()}
            self._idle.wait_for(lambda: not self._running & others, _DETACH_S)
        for handle in self._handles:
            handle.remove()
        self._follower.close()
        self._opened.close()

    @contextmanager
    def using(self, policies: Names, request_ids: str | Sequence[str] | None = None) -> Iterator[None]:
        """Steer the forward passes of this thread (or task) inside by other policies.

        Args:
            policies: Name or id of one policy for all rows, or one for each row; None is no steering.
            request_ids: Id of the request that all rows belong to, or one for each row: a policy with a traffic share
                steers those that the server would. Default a new one for each forward pass.

        Raises:
            InvalidInput: a name that is no name of a policy.
        """
        token = self._choice.set(Choice(full_names(policies), request_ids))
        try:
            yield
        finally:
            self._choice.reset(token)

    @property
    def applied(self) -> tuple[AppliedSteering, ...]:
        """The steering that each row met in this thread's last forward pass.

        Its ``outcome`` is that of Predict (``none``, ``applied``, ``stopped``, ``not_in_share``), ``not_found`` where
        there is no such policy (deleted, perhaps) or ``expired``; in all but ``applied`` the row is not touched.
        """
        return getattr(self._local, "applied", ())

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies known now, by name, expired ones left out."""
        now = self._followed.now()
        return {name: one.policy for name, one in self._followed.state.policies.items() if not one.policy.expired(now)}

    @property
    def stopped(self) -> bool:
        """Whether the kill switch stops this model, or all."""
        return is_stopped(self._followed.state.stops, self._model)

    @property
    def stale(self) -> bool:
        """Whether the server, or its store, cannot be reached: what was known last stays in force."""
        return self._follower.stale

    @property
    def age_s(self) -> float:
        """Seconds since the policies were last known to be the newest."""
        return self._follower.age_s

    def _hook(self) -> list[RemovableHandle]:
        root = self._subject.module
        handles = [root.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)]
        handles += [module.register_forward_hook(self._hook_of(name)) for name, module in self._subject.modules.items()]
        return [*handles, root.register_forward_hook(self._end, always_call=True)]

    def _hook_of(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
            running: Pass | None = getattr(self._local, "running", None)
            return None if running is None else self._subject.edited(name, output, running.edits, running.rows)

        return hook

    def _begin(self, _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._local.running = None
        with self._idle:
            if self._closed:
                return
            self._running.add(threading.get_ident())
        edits, self._local.applied = self._plan(_rows(inputs, named))
        if any(edits):
            self._local.running = Pass(len(edits), assemble(edits, self._subject.layer_sizes))

    def _end(self, _module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        """After the pass, also one that failed (``output`` is None then)."""
        running: Pass | None = getattr(self._local, "running", None)
        self._local.running = None
        with self._idle:
            self._running.discard(threading.get_ident())
            self._idle.notify_all()
        if running is None or output is None:
            return None
        return self._subject.edited(LOGITS, output, running.edits, running.rows)

    def _plan(self, rows: int) -> tuple[list[CompiledEdits], tuple[AppliedSteering, ...]]:
        """Edits of each row, and what to say about them, from one state of the policies."""
        choice, state, stale = self._choice.get() or self._default, self._followed.state, self.stale
        policies = _per_row(choice.policies, rows, "policies")
        ids = _per_row(choice.request_ids or uuid.uuid4().hex, rows, "request_ids")
        pairs = [*zip(policies, ids, strict=True)]
        decisions = {
            (name, request_id): self._decide(name, SteeredRequest(self._model, request_id or "", stale), state)
            for name, request_id in dict.fromkeys(pairs)
        }
        return [decisions[pair].edits for pair in pairs], tuple(_applied(pair[0], decisions[pair]) for pair in pairs)

    def _decide(self, name: str | None, request: SteeredRequest, state: State) -> Decision:
        """What a row gets, by the rules of the activation service."""
        if name is None:
            return NOT_STEERED
        decision = decide(state.policies.get(name), state.stops, request, self._followed.now())
        if decision.outcome is Outcome.NOT_FOUND:
            self._note_missing(name)
        error = self._follower.mismatch or decision.problem
        if error is not None and decision.outcome in (Outcome.APPLIED, Outcome.NONE, Outcome.UNFIT):
            raise error.copy()
        return decision

    def _note_missing(self, name: str) -> None:
        if name not in self._missing:
            self._missing.add(name)
            log.warning("there is no %s of models/%s: nothing is steered by it", name, self._model)


def _applied(name: str | None, decision: Decision) -> AppliedSteering:
    return AppliedSteering(decision.outcome.value, name or "", decision.version, decision.fingerprint, decision.stale)


def full_names(policies: Names) -> Names:
    """Names of policies in full; raises InvalidInput."""
    if policies is None or isinstance(policies, str):
        return full_name(policies, "policy")
    return tuple(full_name(one, f"policies[{place}]") for place, one in enumerate(policies))


def full_name(policy: str | None, field: str) -> str | None:
    """Name of a policy in full; raises InvalidInput."""
    if policy is None:
        return None
    name = policy if policy.startswith("policies/") else f"policies/{policy}"
    return f"policies/{parse_id(name, 'policies', field=field)}"


def _per_row(values: str | Sequence[str | None] | None, rows: int, field: str) -> Sequence[str | None]:
    if values is None or isinstance(values, str):
        return [values] * rows
    if len(values) != rows:
        text = f"{field} has {len(values)} entries, but the batch has {rows} rows."
        raise InvalidInput(text, field=field, allowed=f"{rows} entries, or one for all")
    return values


def _rows(inputs: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Rows of a batch: the length of the first tensor that the model is called with."""
    tensor = next((one for one in (*inputs, *named.values()) if isinstance(one, Tensor) and one.ndim), None)
    if tensor is None:
        raise InvalidInput("The model was called with no batch of tensors.", field="model")
    return len(tensor)
