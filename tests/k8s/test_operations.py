"""The runbook: a paragraph for every alert, and commands that name what is in the manifests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
RULES = yaml.safe_load((ROOT / "k8s" / "rules" / "miclip.rules.yaml").read_text())


def anchors(text: str) -> set[str]:
    """What a heading can be linked by."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    links = {rule["annotations"]["runbook_url"].split("docs/operations.md#")[1] for rule in alerts}
    assert len(links) == len(alerts) > 10
    assert {anchor for anchor in anchors(RUNBOOK) if anchor.startswith("alert-")} == links


def test_links_inside_the_runbook_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors(RUNBOOK)


def commands() -> str:
    """The commands that need a cluster."""
    blocks = re.findall(r"^```sh cluster\n(.*?)^```$", RUNBOOK, re.M | re.S)
    assert len(blocks) >= 8
    return "".join(blocks)


def unknown(manifests: Any, text: str) -> Iterator[str]:
    """What the commands name and the overlay has not."""
    pods = [*manifests.pods()]
    containers = {one["name"] for pod in pods for one in pod.containers}
    yield from (f"container {name}" for name in re.findall(r"exec .*?-c (\S+)", text) if name not in containers)
    labels = {f"{key}={value}" for pod in pods for key, value in pod.labels.items()}
    yield from (f"label {label}" for label in re.findall(r" -l (\S+)", text) if label not in labels)
    stateful = {f"{one['metadata']['name']}-0" for one in manifests.of("StatefulSet")}
    yield from (f"pod {name}" for name in re.findall(r"(?:exec|pod) (redis\S+)", text) if name not in stateful)
    ours = {one["metadata"]["name"] for one in manifests.of("RayService")}
    yield from (f"RayService {name}" for name in re.findall(r"rayservice[ /](\S+)", text) if name not in ours)
    folders = re.findall(r"(?:-k |OVERLAY=)(k8s/\S+)", text)
    yield from (f"folder {name}" for name in folders if not (ROOT / name / "kustomization.yaml").exists())
    ports = {port for pod in pods for port in pod.ports.values()}
    yield from (f"port {port}" for port in re.findall(r"port-forward \S+ (\d+)", text) if int(port) not in ports)
    mounts = {mount["mountPath"] for pod in pods for one in pod.containers for mount in one.get("volumeMounts", ())}
    yield from (f"mount {path}" for path in re.findall(r"tar -C (\S+)", text) if path not in mounts)


def test_commands_for_a_cluster_name_what_the_overlay_has(manifests: Any) -> None:
    assert [*unknown(manifests, commands())] == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("-c redis ", "-c server ", "container server"),
        ("component=ray-head", "component=head", "label app.kubernetes.io/component=head"),
        ("exec redis-miclip-0", "exec redis-0", "pod redis-0"),
        ("rayservice/miclip", "rayservice/main", "RayService main"),
        ("k8s/rules", "k8s/alerts", "folder k8s/alerts"),
        (" 9464", " 9465", "port 9465"),
        ("/var/lib/miclip/data", "/data/atlases", "mount /data/atlases"),
    ],
)
def test_commands_that_name_something_else_are_noticed(prod: Any, old: str, new: str, named: str) -> None:
    text = commands()
    assert old in text
    assert set(unknown(prod, text.replace(old, new))) == {named}


def test_folders_that_a_cluster_is_given_render(render: Any) -> None:
    folders = re.findall(r"(?:-k |OVERLAY=)(k8s/\S+)", commands())
    assert len(folders) >= 3
    assert all(render(ROOT / folder).objects for folder in folders)


def test_commands_for_a_cluster_are_shell() -> None:
    done = subprocess.run(["bash", "-n"], input=commands(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
