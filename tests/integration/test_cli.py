"""The command line against a running server: real Serve, real gRPC, real Redis, the shipped models."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.settings import settings
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def connected(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sit at the server's machine: endpoint and key are found in its state directory."""
    for name in ("MICLIP_ENDPOINT", "MICLIP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def value_of(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_status_shows_four_serving_services_and_both_aligned_models() -> None:
    value = value_of("status")
    assert value["ready"] is True
    assert value["services"] == dict.fromkeys(("activation", "aligner", "retrieval", "steering"), "SERVING")
    assert {model["model"] for model in value["models"]} >= {"emoji-resnet", "emoji-vit"}
    assert all(model["atlas"].startswith("atlases/") for model in value["models"] if "emoji" in model["model"])


def test_the_key_is_never_shown(server: Any) -> None:
    for command in ("status", "tour"):
        for arguments in ((command,), (command, "--json")):
            result = run(*arguments)
            assert result.exit_code == 0, result.stderr
            assert server.api_key not in result.stdout + result.stderr


def test_a_key_has_the_scopes_it_was_made_with_until_it_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = value_of("key", "create", "cli-test", "--scope", "read")
    (listed,) = (one for one in value_of("key", "list") if one["name"] == "cli-test")
    assert (listed["scopes"], made["key"] in json.dumps(listed)) == (["read"], False)
    with monkeypatch.context() as patch:
        patch.setenv("MICLIP_API_KEY", made["key"])
        settings.cache_clear()
        wait_until(lambda: run("localize", "dog").exit_code == 0)
        refused = run("steer", "create", "cli-not-allowed", "layer4/1*2")
        assert (refused.exit_code, made["key"] in refused.stderr) == (1, False)
        assert "steer" in refused.stderr
    settings.cache_clear()
    assert value_of("key", "delete", listed["key_id"]) == {"deleted": listed["key_id"]}
    assert "cli-test" not in [one["name"] for one in value_of("key", "list")]


def test_another_endpoint_can_be_named(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MICLIP_ENDPOINT", server.grpc_endpoint)
    monkeypatch.setenv("MICLIP_API_KEY", server.api_key)
    settings.cache_clear()
    assert value_of("status")["endpoint"] == server.grpc_endpoint


def test_a_wrong_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICLIP_API_KEY", "not-the-key-1234567890")
    settings.cache_clear()
    result = run("localize", "dog", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "not-the-key" not in result.stderr


def test_a_logit_is_described_by_its_own_label() -> None:
    (answer,) = value_of("describe", "logits/1", "--top-k", "1")
    assert answer["name"] == "models/emoji-resnet/layers/logits/units/1"
    assert answer["concepts"][0]["concept"] == "dog"


@pytest.mark.parametrize("arguments", [("describe", "layer4/0", "layer4/1"), ("localize", "dog", "--layer", "layer4")])
def test_the_server_and_the_library_alone_agree(arguments: tuple[str, ...]) -> None:
    remote, local = value_of(*arguments), value_of(*arguments, "--local")
    assert [_names(answer) for answer in remote] == [_names(answer) for answer in local]
    assert _numbers(remote) == pytest.approx(_numbers(local), abs=1e-4)


def test_a_concept_that_no_image_shows_is_doubted_beside_the_answer_and_a_label_is_not() -> None:
    doubted, known = (run("localize", concept, "--json") for concept in ("tax declaration", "dog"))
    (answer,) = json.loads(doubted.stdout)
    assert answer["evidence"]["doubtful"]
    assert "units" in answer
    shown = run("localize", "tax declaration")
    assert 'Doubtful: the probe images may not show "tax declaration"' in shown.stderr
    assert "from images taken for" in shown.stdout
    assert "Doubtful" not in known.stderr


def _names(answer: dict[str, Any]) -> list[Any]:
    return [answer.get("name"), [(one.get("concept"), one.get("name")) for one in _entries(answer)]]


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answer.get("concepts") or answer["units"])


def _numbers(answers: list[dict[str, Any]]) -> list[float]:
    return [one["score"] for answer in answers for one in _entries(answer)]


def test_an_unsteered_prediction_has_no_change_and_a_steered_one_has() -> None:
    image = str(example_image())
    plain = value_of("predict", image)
    assert [label["change"] for label in plain["steered"]] == [0.0] * len(plain["steered"])
    steered = value_of("predict", image, "--steer", "dog=3", "--top-k", "128")
    assert steered["applied"]["outcome"] == "applied"
    assert len(steered["edits"]) == 5
    (dog,) = (label for label in steered["steered"] if label["label"] == "dog")
    assert dog["change"] > 0


def test_steering_by_hand_is_the_same_on_the_server_and_in_this_process() -> None:
    arguments = ("predict", str(example_image()), "--steer", "layer4/12*0", "--steer", "layer4/3+0.5")
    remote, local = value_of(*arguments), value_of(*arguments, "--local")
    assert remote["applied"]["fingerprint"] == local["applied"]["fingerprint"] != ""
    for side in ("baseline", "steered"):
        assert [label["label"] for label in remote[side]] == [label["label"] for label in local[side]]
        logits = [label["logit"] for label in local[side]]
        assert [label["logit"] for label in remote[side]] == pytest.approx(logits, abs=1e-3)


def test_a_policy_lives_from_create_to_delete() -> None:
    made = value_of("steer", "create", "cli-more-dogs", "dog=2.0", "--description", "from the command line")
    try:
        assert (made["policy_id"], made["concept"]["text"], len(made["edits"])) == ("cli-more-dogs", "dog", 5)
        assert value_of("steer", "get", "cli-more-dogs")["etag"] == made["etag"]
        assert "cli-more-dogs" in [policy["policy_id"] for policy in value_of("steer", "list")]
        predicted = value_of("predict", str(example_image()), "--steer", "policies/cli-more-dogs")
        assert predicted["applied"]["policy"].endswith("cli-more-dogs")
        again = run("steer", "create", "cli-more-dogs", "dog=2.0", "--json")
        assert (again.exit_code, again.stdout) == (1, "")
    finally:
        assert value_of("steer", "delete", "cli-more-dogs") == {"deleted": "cli-more-dogs"}
    assert run("steer", "get", "cli-more-dogs").exit_code == 1


def test_an_update_changes_what_is_given_alone() -> None:
    made = value_of("steer", "create", "cli-updated", "dog=2.0", "--ttl", "3600", "--description", "kept")
    try:
        shared = value_of("steer", "update", "cli-updated", "--traffic-share", "0.5")
        assert (shared["version"], shared["traffic_share"], shared["description"]) == (2, 0.5, "kept")
        assert (shared["concept"]["text"], shared["edits"]) == ("dog", made["edits"])
        edited = value_of("steer", "update", "cli-updated", "layer4/1*0", "layer4/2+0.5")
        assert (edited["concept"], edited["traffic_share"], edited["ttl_seconds"]) == (None, 0.5, 3600)
        assert [(edit["unit"], edit["op"]) for edit in edited["edits"]] == [(1, "scale"), (2, "add")]
        stale = run("steer", "update", "cli-updated", "--ttl", "7", "--etag", made["etag"])
        assert (stale.exit_code, "etag" in stale.stderr) == (1, True)
        nothing = run("steer", "update", "cli-updated")
        assert (nothing.exit_code, "Nothing to change" in nothing.stderr) == (1, True)
        rows = run("steer", "list", "--csv").stdout.splitlines()
        assert rows[0].startswith("policy,model,concept,edits")
        assert [row for row in rows if row.startswith("cli-updated,emoji-resnet,,")]
    finally:
        value_of("steer", "delete", "cli-updated")


def test_a_vocabulary_lives_from_create_to_delete(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("fur\n\n smooth metal \n", encoding="utf-8")
    made = value_of("vocabularies", "create", "cli-words", "water", "--file", str(tmp_path / "words.txt"))
    try:
        assert (made["vocabulary"], made["size"], made["builtin"]) == ("cli-words", 3, False)
        listed = {each["vocabulary"]: each for each in value_of("vocabularies", "list")}
        assert listed["cli-words"] == made == value_of("vocabularies", "show", "cli-words")
        assert listed["emoji"]["builtin"] and listed["model-labels"]["size"] is None
        (described,) = value_of("describe", "layer4/12", "--vocabulary", "cli-words")
        assert {concept["concept"] for concept in described["concepts"]} == {"water", "fur", "smooth metal"}
    finally:
        assert value_of("vocabularies", "delete", "cli-words") == {"deleted": "cli-words"}
    missing = run("vocabularies", "show", "cli-words")
    assert (missing.exit_code, "emoji" in missing.stderr) == (1, True)


def test_a_photograph_above_the_servers_limit_is_shrunk(tmp_path: Path) -> None:
    with Image.open(example_image()) as drawing:
        white = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing.convert("RGBA"))
        white.convert("RGB").resize((6000, 6000)).save(tmp_path / "large.jpg")
    result = run("predict", str(tmp_path / "large.jpg"), "--json")
    assert result.exit_code == 0, result.stderr
    assert "shrunk to 2048×2048" in result.stderr
    best = [
        each["baseline"][0]["label"] for each in (json.loads(result.stdout), value_of("predict", str(example_image())))
    ]
    assert best[0] == best[1]


def test_the_kill_switch_stops_edits_until_it_is_taken_back() -> None:
    arguments = ("predict", str(example_image()), "--steer", "layer4/12*0")
    try:
        assert [stop["reason"] for stop in value_of("steer", "stop", "a drill")] == ["a drill"]
        wait_until(lambda: value_of(*arguments)["applied"]["outcome"] == "stopped")
        assert "not applied: stopped" in " ".join(run(*arguments).stdout.split())
    finally:
        assert value_of("steer", "resume", "the drill is over") == []
    wait_until(lambda: value_of(*arguments)["applied"]["outcome"] == "applied")


@contextmanager
def _watching(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a terminal does, deaf to no interrupt; nothing of it is left."""
    command = [sys.executable, "-m", "miclip.cli.app", "steer", "watch", "--model", "emoji-resnet", *options]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_changes_are_printed_as_they_happen_until_ctrl_c() -> None:
    with _watching("--json") as watching, _watching() as reading:
        assert watching.stdout and reading.stdout and watching.stderr and reading.stderr
        assert json.loads(watching.stdout.readline())["event"] == "snapshot"
        assert "olicies" in reading.stdout.readline()
        value_of("steer", "create", "cli-watched", "layer4/12*0", "--ttl", "3600")
        try:
            made = json.loads(watching.stdout.readline())
            assert (made["event"], made["policy"]["policy_id"], made["policy"]["version"]) == (
                "created",
                "cli-watched",
                1,
            )
        finally:
            value_of("steer", "delete", "cli-watched")
        gone = json.loads(watching.stdout.readline())
        assert (gone["event"], gone["policy_id"], gone["model"]) == ("deleted", "cli-watched", "emoji-resnet")
        shown = ""
        while "deleted" not in shown:  # the other process may hear of it later
            line = reading.stdout.readline()
            assert line, f"ended after {shown!r}"
            shown += line
        for process in (watching, reading):
            process.send_signal(signal.SIGINT)
        rest, error = watching.stdout.read(), watching.stderr.read()
        assert (watching.wait(30), rest, error) == (130, "", "")
        assert (reading.wait(30), "Traceback" in reading.stderr.read()) == (130, False)
        assert "created   cli-watched of emoji-resnet, version 1: layer4/12 ×0 for 100%" in shown
        assert "deleted   cli-watched of emoji-resnet" in shown


def test_a_preview_measures_the_target_the_others_and_random_units() -> None:
    value = value_of("steer", "preview", "dog=0", "--target", "dog")
    assert value["target_label"] == "dog"
    assert value["target_change"] < value["random_target_change"]
    assert len(value["units"]) == len(value["edits"]) == 5


def test_the_tour_shows_all_three_steps() -> None:
    value = value_of("tour")
    assert value["localize"]["concept"] == "dog"
    assert value["describe"]["abstained"] is False
    assert value["predict"]["applied"]["outcome"] == "applied"
    shown = run("tour").stdout
    assert [f"{place}. " in shown for place in (1, 2, 3)] == [True] * 3


def test_in_a_pipe_json_is_all_that_stands_on_standard_output() -> None:
    command = [sys.executable, "-m", "miclip.cli.app", "localize", "dog", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [answer["concept"] for answer in json.loads(ended.stdout)] == ["dog"]
    assert ended.stderr == ""
