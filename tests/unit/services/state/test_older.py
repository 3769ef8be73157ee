"""What earlier versions stored can still be read."""

from __future__ import annotations

import json

import pytest

from miclip.errors import BadArtefact
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import RequestedEdit
from services.state.older import older_policy, older_stop

OLD = {
    "policy_id": "p",
    "model": "m",
    "edits": [{"layer": "layer4", "unit": 1, "op": "add", "value": 2.0, "reconstruct": False}],
    "concept": "",
    "description": "d",
    "version": 3,
    "etag": "e",
    "ttl_seconds": 60.0,
    "traffic_share": 0.5,
    "norm_limit": 0.0,
    "created_by": "k",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-02T00:00:00Z",
}
BY_CONCEPT = (
    '{"concept": {"text": "dog", "scale": 2.0, "layers": ["models/m/layers/layer4"], "evidence": {"labels": []}}}'
)
RELATIVE = '{"edits": {"edits": [{"layer": "models/m/layers/layer4", "unit": 1, "add": 0.5, "relativeToMax": true}]}}'
ABSOLUTE = '{"edits": {"edits": [{"layer": "models/m/layers/layer4", "unit": 1, "add": 2.0}]}}'


@pytest.mark.parametrize("asked", [BY_CONCEPT, RELATIVE, ABSOLUTE])
def test_an_older_policy_keeps_all_it_said(asked: str) -> None:
    policy = older_policy(json.dumps({**OLD, "asked": asked}).encode())
    assert policy.edits == (Edit("layer4", 1, Op.ADD, 2.0),)
    assert (policy.version, policy.etag, policy.ttl_seconds, policy.traffic_share) == (3, "e", 60.0, 0.5)
    assert policy.expire_time is not None
    assert policy.expire_time.isoformat() == "2026-01-02T00:01:00+00:00"
    if asked == BY_CONCEPT:
        assert policy.concept is not None
        assert (policy.concept.text, policy.concept.layers) == ("dog", ("layer4",))
    relative = (RequestedEdit("layer4", 1, Op.ADD, 0.5, relative_to_max=True),)
    assert policy.requested == (relative if asked == RELATIVE else ())


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"asked": "x"}', json.dumps({**OLD, "asked": "{", "x": 1}).encode()]
)
def test_what_is_neither_is_refused(text: bytes) -> None:
    with pytest.raises(BadArtefact):
        older_policy(text)


def test_an_older_stop_learns_its_model() -> None:
    stop = older_stop("m", b'{"reason": "r", "stopped_at": 1.0, "stopped_by": "k"}')
    assert (stop.model, stop.reason, stop.stop_time.timestamp()) == ("m", "r", 1.0)
