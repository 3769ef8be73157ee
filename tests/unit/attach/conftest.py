"""The small model with its images, and a server of its policies with a client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from miclip.client import MiclipClient
from miclip.models.weights import state_sha256
from tests.unit.attach.toy import PolicyServer, Toy


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def server(toy: Toy) -> Iterator[PolicyServer]:
    made = PolicyServer(state_sha256(toy.state_dict()))
    yield made
    made.stop()


@pytest.fixture
def client(server: PolicyServer) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=server.endpoint, api_key="k") as made:
        yield made
