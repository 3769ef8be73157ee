"""A model in this process under the policies of a running server: the same numbers as Predict, within seconds."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from miclip.attach import attach
from miclip.catalogue import load_target
from miclip.client import MiclipClient, make_policy
from miclip.images import decode_image
from miclip.models.target import TargetModel
from miclip.settings import settings
from miclip.steering.edits import Edit, Op
from tests.names import RESNET as MODEL
from tests.names import VIT
from tests.waiting import wait_until

FEATURES = "layer4/dictionaries/topk-512"
EDITS = {
    "neurons": [Edit("layer3", 5, Op.ADD, 0.5), *(Edit("layer4", unit, Op.SCALE, 0.0) for unit in range(80))],
    "features": [Edit(FEATURES, unit, Op.SCALE, 2.0) for unit in range(0, 512, 4)],
    "reconstruction": [Edit(FEATURES, 425, Op.SCALE, 0.0, True), Edit("logits", 1, Op.ADD, -2.0)],
}
SOON_S = 2.0


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as connected:
        yield connected


@pytest.fixture(scope="module")
def target() -> TargetModel:
    return load_target(MODEL, "cpu")


@pytest.fixture(scope="module")
def policies(client: MiclipClient) -> Iterator[dict[str, str]]:
    """Names of policies, by what they edit."""
    ids = {kind: f"a-{kind}-{uuid.uuid4().hex[:8]}" for kind in EDITS}
    for kind, edits in EDITS.items():
        client.create_policy(ids[kind], make_policy(model=MODEL, edits=edits))
    yield {kind: f"policies/{name}" for kind, name in ids.items()}
    for name in ids.values():
        client.delete_policy(name)


@pytest.fixture(scope="module")
def inputs(target: TargetModel, dog: bytes) -> Tensor:
    return target.preprocess(decode_image(dog, field="image"))[None]


def served(client: MiclipClient, image: bytes, policy: str = "", request_id: str = "") -> tuple[Tensor, str]:
    """Logits of Predict, and what became of the steering."""
    answer = client.with_options(request_id=request_id).predict([image], model=MODEL, policy=policy, top_k=1000)
    ordered = sorted(answer.images[0].predictions, key=lambda one: one.index)
    return torch.tensor([one.logit for one in ordered]), answer.steering.outcome


@pytest.mark.parametrize("kind", EDITS)
def test_the_logits_are_those_of_predict(
    client: MiclipClient, target: TargetModel, policies: dict[str, str], inputs: Tensor, dog: bytes, kind: str
) -> None:
    wanted, outcome = served(client, dog, policies[kind])
    plain = target.forward(inputs).logits[0]
    assert outcome == "applied"
    assert not torch.allclose(wanted, plain, atol=1e-2)
    with attach(target, policy=policies[kind], client=client) as steering:
        assert torch.allclose(target.forward(inputs).logits[0], wanted, rtol=1e-4, atol=1e-4)
        assert (
            steering.applied[0].fingerprint
            == client.predict([dog], model=MODEL, policy=policies[kind]).steering.fingerprint
        )
    assert torch.equal(target.forward(inputs).logits[0], plain)


def test_rows_of_a_mixed_batch_are_each_those_of_predict(
    client: MiclipClient, target: TargetModel, policies: dict[str, str], inputs: Tensor, dog: bytes
) -> None:
    names = [None, *policies.values()]
    with attach(target, client=client) as steering:
        with steering.using(names):
            mixed = target.forward(inputs.expand(len(names), -1, -1, -1)).logits
        for row, name in zip(mixed, names, strict=True):
            assert torch.allclose(row, served(client, dog, name or "")[0], rtol=1e-4, atol=1e-4)
            with steering.using(name):
                assert torch.allclose(row, target.forward(inputs).logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", [MODEL, VIT])
def test_a_plain_module_is_steered_as_the_catalogues_model(client: MiclipClient, inputs: Tensor, model: str) -> None:
    own, layer = load_target(model, "cpu"), {MODEL: "layer4", VIT: "norm"}[model]
    edits = [Edit(layer, unit, Op.SCALE, 0.0) for unit in range(60)]
    made = client.create_policy(f"a-{uuid.uuid4().hex[:8]}", make_policy(model=model, edits=edits))
    try:
        with attach(own, policy=made.name, client=client):
            wanted = own.forward(inputs).logits
        plain = own.forward(inputs).logits
        with torch.no_grad(), attach(own.module, model, policy=made.name, client=client):
            assert torch.allclose(own.module(inputs), wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(wanted, plain, atol=1e-2)
    finally:
        client.delete_policy(made.name)


def test_a_share_takes_the_requests_that_the_server_takes(
    client: MiclipClient, target: TargetModel, inputs: Tensor, dog: bytes
) -> None:
    policy = make_policy(model=MODEL, edits=EDITS["neurons"], traffic_share=0.5)
    made = client.create_policy(f"a-{uuid.uuid4().hex[:8]}", policy)
    ids = [f"r-{number}" for number in range(12)]
    try:
        with attach(target, client=client) as steering, steering.using(made.name, request_ids=ids):
            target.forward(inputs.expand(12, -1, -1, -1))
            found = [one.outcome for one in steering.applied]
        assert found == [served(client, dog, made.name, one)[1] for one in ids]
        assert len(set(found)) == 2
    finally:
        client.delete_policy(made.name)


def test_what_happens_at_the_server_takes_effect_here_within_seconds(
    client: MiclipClient, target: TargetModel, inputs: Tensor
) -> None:
    name = f"policies/a-{uuid.uuid4().hex[:8]}"
    with attach(target, policy=name, client=client) as steering:

        def met(version: int, outcome: str) -> bool:
            target.forward(inputs)
            applied = steering.applied[0]
            return (applied.policy_version, applied.outcome) == (version, outcome)

        assert met(0, "not_found")
        made = client.create_policy(name.removeprefix("policies/"), make_policy(model=MODEL, edits=EDITS["neurons"]))
        wait_until(lambda: met(1, "applied"), SOON_S)
        client.update_policy(made.replaced(ttl_seconds=3600))
        wait_until(lambda: met(2, "applied"), SOON_S)
        try:
            client.stop_steering("a test", model=MODEL)
            wait_until(lambda: met(2, "stopped"), SOON_S)
        finally:
            client.resume_steering("a test", model=MODEL)
        wait_until(lambda: met(2, "applied"), SOON_S)
        client.delete_policy(name)
        wait_until(lambda: met(0, "not_found"), SOON_S)
        assert not steering.stale
        assert steering.age_s < 5


def test_two_attached_models_are_two_watchers_and_then_none(server: Any, client: MiclipClient) -> None:
    first, second = load_target(MODEL, "cpu"), load_target(VIT, "cpu")

    def streams() -> int:
        from urllib.request import urlopen

        with urlopen(f"http://{server.metrics_endpoint}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("miclip_policy_watchers{")))

    with attach(first, client=client), attach(second, client=client):
        wait_until(lambda: streams() == 2, SOON_S)
    wait_until(lambda: streams() == 0, SOON_S)


def test_the_documents_example_prints_what_the_document_says(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[2]
    example, printed = re.search(
        r"```python\n(.*?)```.*?```text\n(.*?)```", (root / "docs/attach.md").read_text(encoding="utf-8"), re.DOTALL
    ).groups()  # type: ignore[union-attr]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    settings.cache_clear()
    try:
        exec(compile(example, "docs/attach.md", "exec"), {})
    finally:
        settings.cache_clear()
    assert capsys.readouterr().out == printed
