"""What resolving a policy asks of the other services."""

from __future__ import annotations

from typing import Any

import pytest

from miclip.errors import InvalidInput
from miclip.settings import Settings
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import RequestedEdit, make_policy
from miclip.v1 import activation_pb2, retrieval_pb2
from miclip.wire.policies import write_policy
from services.rpc.limits import page_of
from services.steering.resolver import Resolver

SIZES = {"a": 30, "b": 8}


class Services:
    """Answers as the other services do, about a model of two layers; unit ``u`` has the maximum ``u``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    async def call(self, rpc: str, request: Any) -> Any:
        if rpc == "GetModel":
            layers = [activation_pb2.Layer(name=f"models/m/layers/{name}", units=n) for name, n in SIZES.items()]
            return activation_pb2.GetModelResponse(model=activation_pb2.Model(name="models/m", layers=layers))
        self.calls.append((rpc, request.parent))
        page, token = page_of(range(SIZES[request.parent.rpartition("/")[2]]), request, 20)
        units = [retrieval_pb2.Unit(name=f"{request.parent}/units/{unit}", maximum=unit) for unit in page]
        return retrieval_pb2.ListUnitsResponse(units=units, next_page_token=token)


def relative(layer: str, unit: int) -> RequestedEdit:
    return RequestedEdit(layer, unit, Op.ADD, 0.5, relative_to_max=True)


async def resolve(services: Services, edits: list[Edit]) -> dict[str, Any]:
    peer: Any = services
    resolver = Resolver(peer, peer, Settings(max_page_size=20))
    return await resolver.fields(write_policy(make_policy(model="m", edits=edits)), "policy")


async def test_relative_edits_ask_once_a_layer_and_become_absolute() -> None:
    services, plain = Services(), Edit("a", 3, Op.SCALE, 2.0)
    edits = [*(relative("a", unit) for unit in range(1, 19)), plain, relative("b", 7)]
    fields = await resolve(services, edits)
    assert sorted(services.calls) == [("ListUnits", "models/m/layers/a"), ("ListUnits", "models/m/layers/b")]
    assert fields["edits"][17:] == (Edit("a", 18, Op.ADD, 9.0), plain, Edit("b", 7, Op.ADD, 3.5))
    assert fields["requested"][0] == relative("a", 1)


async def test_a_unit_beyond_the_first_page_is_found() -> None:
    services = Services()
    assert (await resolve(services, [relative("a", 29)]))["edits"] == (Edit("a", 29, Op.ADD, 14.5),)
    assert len(services.calls) == 2


async def test_absolute_edits_ask_for_no_maxima() -> None:
    services = Services()
    assert (await resolve(services, [Edit("a", 3, Op.SCALE, 2.0)]))["requested"] == ()
    assert services.calls == []


async def test_a_unit_that_is_never_positive_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        await resolve(Services(), [Edit("a", 3, Op.SCALE, 2.0), relative("a", 0)])
    assert caught.value.field == "policy.edits.edits[1].relative_to_max"
