"""The runbook's commands for one machine, run as they stand there. Starts a server of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "docs" / "operations.md"

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.mark.timeout(420)
def test_every_command_of_the_runbook_for_this_machine_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", RUNBOOK.read_text(), re.M | re.S)
    assert len(blocks) >= 8
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("docs", "k8s", "miclip", "services", "tools"):
        (clone / name).symlink_to(ROOT / name)
    (clone / ".venv").symlink_to(sys.prefix)
    directories = {"MICLIP_STATE_DIR": str(tmp_path / "state"), "MICLIP_DATA_DIR": str(tmp_path / "data")}
    ports = dict.fromkeys(("MICLIP_GRPC_PORT", "MICLIP_HTTP_PORT", "MICLIP_METRICS_PORT"), "0")
    environment = {**os.environ, **directories, **ports, "PYTHONPATH": str(ROOT)}
    stop = "trap 'miclip stop >/dev/null' EXIT\n"
    done = subprocess.run(
        ["bash", "-exo", "pipefail", "-c", stop + "\n".join(blocks)],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "rehearsal of the runbook" in done.stdout
    assert (clone / "backup" / "state.jsonl").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "state" / "server.json").exists(), "the last command stops it"
