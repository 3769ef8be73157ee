"""The evaluation as one: a demo model, a few queries, one seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miclip.catalogue import Catalogue
from miclip.cli import evaluation_tables
from miclip.demo.assets import DEMO
from miclip.demo.concepts import TRAIN_STYLES
from miclip.demo.probe import StyleViews, held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.methods import METHODS
from miclip.evaluation.run import evaluate
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.evaluation.unseen import METHODS as TEXT_METHODS
from miclip.models.target import LOGITS
from miclip.retrieval.vocabulary import builtin_concepts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = EvaluationSettings(
    seeds=(0,), queries={"names": (12, 4), "synonyms": (6, 0)}, other_views=1, other_classes=(128, 24), unseen=4
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], Path]:
    catalogue, store = Catalogue([DEMO]), tmp_path_factory.mktemp("evaluation")
    images = held_out()
    subject = Subject(
        catalogue.load_target("emoji-resnet", "cpu"), "layer4", "layer3", images, images.labels, demo_queries()
    )
    stages: list[str] = []
    value = evaluate(
        [subject], catalogue.load_clip("cpu"), lambda seed: StyleViews("few", TRAIN_STYLES[:3], 1, seed), store,
        SETTINGS, lambda stage, _done, _total: stages.append(stage), {"emoji": builtin_concepts("emoji")},
    )  # fmt: skip
    return value["targets"]["emoji-resnet"], stages, store


def test_every_place_has_labels_and_agreement_and_the_edited_ones_every_method(evaluated: Any) -> None:
    target = evaluated[0]
    assert list(target["layers"]) == ["layer3", "layer4", LOGITS]
    for layer, figures in target["layers"].items():
        neurons = figures["neurons"]
        assert figures["labels"] == neurons["labels"]
        assert set(neurons["agreement"]) == set(neurons["labels"])
        if layer != LOGITS:
            expected = set(METHODS) - (set() if layer == "layer4" else {"weight_x_activation"})
            assert set(neurons["localization"]) == expected
            assert figures["localization"] == neurons["localization"]
    assert target["layers"][LOGITS]["description_top1"] > 90
    assert "synonyms" in target["layers"]["layer4"]["neurons"]
    assert "synonyms" not in target["layers"]["layer3"]["neurons"]


def test_features_stand_beside_the_neurons_of_a_layer_with_a_dictionary(evaluated: Any) -> None:
    layers = evaluated[0]["layers"]
    assert {layer: figures["features"]["dictionary"] for layer, figures in layers.items() if "features" in figures} == {
        "layer3": "topk-256", "layer4": "topk-512",
    }  # fmt: skip
    features = layers["layer4"]["features"]
    assert set(features["localization"]) == set(METHODS) - {"weight_x_activation"}
    assert set(features) >= {"labels", "agreement", "localization", "synonyms", "verdict", "evidence"}
    names = features["evidence"]["names"]
    assert names["trusted_share"] == 100
    assert names["trusted"] == features["verdict"]["names"]
    assert "doubtful" not in names
    assert 0 <= features["evidence"]["synonyms"]["trusted_share"] <= 100


def test_the_logits_are_described_over_an_open_vocabulary(evaluated: Any) -> None:
    emoji = evaluated[0]["layers"][LOGITS]["description"]["emoji"]
    assert emoji["size"] == 1436
    found = emoji["methods"]["filter"]
    assert found["exact"] > 50
    assert found["clip"] > 3 * found["null"]["clip"]
    assert found["sentence"] > 3 * found["null"]["sentence"]


def test_the_default_localisation_is_far_above_the_controls(evaluated: Any) -> None:
    found = evaluated[0]["layers"]["layer4"]["neurons"]
    removed = {method: scales["scale_0"]["target"] for method, scales in found["localization"].items()}
    assert removed["attribution"] < -5
    assert abs(removed["random"]) < 3
    assert abs(removed["shuffled"]) < 3
    assert found["verdict"]["names"]["scale_0"]["share_of_oracle"] > 0.8


def test_hidden_classes_are_named_and_localized_by_text_alone(evaluated: Any) -> None:
    unseen = evaluated[0]["unseen"]
    assert len(set(unseen["classes"])) == 4
    assert set(unseen["layers"]) == {"layer3", "layer4"}
    assert set(unseen["layers"]["layer4"]["neurons"]) == set(TEXT_METHODS)


def test_the_cost_has_every_step_and_the_steps_that_each_builds_on(evaluated: Any) -> None:
    cost = evaluated[0]["cost"]
    assert cost["layer"] == "layer4"
    for needs in cost["needs"].values():
        assert set(needs) <= set(cost["steps"])
    assert cost["steps"]["attributions"]["gflop"] > cost["steps"]["activations"]["gflop"] > 10
    assert min(step["seconds"] for step in cost["steps"].values()) > 0


def test_shuffled_labels_drop_agreement_to_the_null(evaluated: Any) -> None:
    for method, found in evaluated[0]["layers"][LOGITS]["neurons"]["agreement"].items():
        assert found["auprc"] > 4 * found["null"]["auprc"], method
        assert found["null"]["auprc"] < 0.05, method


def test_the_value_is_json_and_its_tables_can_be_shown(evaluated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"targets": {"emoji-resnet": evaluated[0]}}
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    evaluation_tables.show(value)
    shown = capsys.readouterr().out
    assert "network dissection" in shown
    assert "% of oracle" in shown


def test_progress_names_what_is_done_and_a_whole_evaluation_leaves_no_records(evaluated: Any) -> None:
    _, stages, store = evaluated
    assert "emoji-resnet layer4 seed 0" in stages
    assert not (store / "interventions").exists()
