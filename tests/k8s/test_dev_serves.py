"""The Serve config of the dev overlay, started on this machine. Starts a server of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.mark.timeout(420)
def test_the_serve_config_of_the_dev_overlay_answers_all_four_services(
    render: Any, start_server: Any, tmp_path: Path
) -> None:
    from services.node import control

    manifests = render(ROOT / "k8s" / "overlays" / "dev")
    (tmp_path / "rayservice.yaml").write_text(yaml.safe_dump(manifests.one("RayService", "miclip")))
    with start_server(MICLIP_SERVE_CONFIG=str(tmp_path / "rayservice.yaml")) as started:
        answers = {name: control.answers(started.grpc_endpoint, name) for name in control.APPLICATIONS}
    assert answers == dict.fromkeys(["activation", "aligner", "retrieval", "steering"], True)
