"""A local server takes the Serve config that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from miclip.errors import NotReady
from miclip.settings import Settings
from services.node.serve_config import read_serve_config, serve_config


@pytest.mark.parametrize("kind", ["Serve config", "RayService"])
def test_a_file_differs_in_its_ports_alone(tmp_path: Path, kind: str) -> None:
    config = serve_config(Settings(), grpc_port=9000, http_port=8000)
    service = {"kind": "RayService", "spec": {"serveConfigV2": yaml.safe_dump(config)}}
    (tmp_path / "file").write_text(yaml.safe_dump(config if kind == "Serve config" else service))
    read = read_serve_config(tmp_path / "file", grpc_port=1, http_port=2)
    assert read == serve_config(Settings(), grpc_port=1, http_port=2)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "kind: RayService", "kind: Pod"])
def test_another_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(NotReady, match=r"MICLIP_SERVE_CONFIG: .*file\.yaml is no Serve config"):
        read_serve_config(tmp_path / "file.yaml", grpc_port=1, http_port=2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"No such file or directory: .*none"):
        read_serve_config(tmp_path / "none", grpc_port=1, http_port=2)
