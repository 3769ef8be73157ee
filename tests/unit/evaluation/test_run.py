"""The evaluation as one: a demo model, a few queries, one seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from miclip.catalogue import Catalogue
from miclip.cli import evaluation_tables
from miclip.demo.assets import DEMO
from miclip.demo.concepts import TRAIN_STYLES
from miclip.demo.probe import StyleViews, held_out
from miclip.demo.queries import FRESH_KINDS, KINDS, demo_queries
from miclip.evaluation.agreement import TESTED
from miclip.evaluation.curves import METHODS as CURVED
from miclip.evaluation.findings import findings
from miclip.evaluation.methods import METHODS, named
from miclip.evaluation.result import NAMES, Result, Target, Units, read_result, write_result
from miclip.evaluation.run import evaluate
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.models.target import LOGITS
from miclip.retrieval.vocabulary import builtin_concepts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = EvaluationSettings(
    seeds=(0,),
    queries={"names": (12, 4), "synonyms": (6, 0)},
    other_views=1,
    other_classes=(128, 24),
    unseen=4,
    curve=(1, 5),
    curve_queries=6,
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[str], Path]:
    catalogue, store = Catalogue([DEMO]), tmp_path_factory.mktemp("evaluation")
    images = held_out()
    model = catalogue.load_target("emoji-resnet", "cpu")
    subject = Subject(model, ("layer3", "layer4"), images, images.labels, demo_queries())
    stages: list[str] = []
    result = evaluate(
        [subject], catalogue.load_clip("cpu"), lambda seed: StyleViews("few", TRAIN_STYLES[:3], 1, seed), store,
        SETTINGS, lambda now: stages.append(str(now.stage)), {"emoji": builtin_concepts("emoji")},
    )  # fmt: skip
    return result, stages, store


@pytest.fixture(scope="module")
def target(evaluated: tuple[Result, list[str], Path]) -> Target:
    return evaluated[0].targets["emoji-resnet"]


def units(target: Target, layer: str, kind: str) -> Units:
    (found,) = (place for place in target.places if (place.layer, place.units) == (layer, kind))
    return found


def test_every_place_has_labels_and_agreement_and_the_edited_ones_every_method(target: Target) -> None:
    places = [(place.layer, place.units) for place in target.places]
    edited = [(layer, kind) for layer in ("layer3", "layer4") for kind in ("neurons", "features")]
    controls = [(layer, "random features") for layer in ("layer3", "layer4")]
    assert places == [*edited[:2], controls[0], *edited[2:], controls[1], (LOGITS, "neurons")]
    for place in target.places:
        assert list(place.agreement) == list(place.labels)
        if place.layer == LOGITS or place.units == "random features":
            assert not place.localizations
        else:
            weight = (place.layer, place.units) == ("layer4", "neurons")
            expected = [name for name in named() if weight or name != "weight_x_activation"]
            assert list(place.localizations[NAMES].methods) == expected
    assert units(target, LOGITS, "neurons").labels["default"].drives.value > 90
    assert not units(target, LOGITS, "neurons").carried
    assert "synonyms" in units(target, "layer4", "neurons").localizations
    assert "synonyms" not in units(target, "layer3", "neurons").localizations


def test_labels_begin_with_those_of_miclip_and_keep_the_order_of_the_methods(target: Target) -> None:
    assert list(units(target, "layer4", "neurons").labels) == [
        "default", "filter", "pattern", "causal", "clip_dissect", "clip_dissect_attribution", "semanticlens",
        "semanticlens_attribution", "network_dissection", "signed_filter", "closed_vocabulary",
    ]  # fmt: skip


def test_labels_are_judged_twice_and_all_methods_keep_as_many_as_miclip(target: Target) -> None:
    labels = units(target, "layer4", "neurons").labels
    assert len({round(found.coverage, 6) for found in labels.values()}) == 1
    assert 0 < labels["default"].coverage < 100
    kept = labels["default"].kept_drives
    assert kept is not None
    assert kept.value > labels["default"].drives.value
    assert labels["closed_vocabulary"].drives.value > labels["filter"].drives.value


def test_carried_attribution_is_measured_for_all_kinds_of_query_in_all_places_below_the_logits(target: Target) -> None:
    for place in target.places:
        if place.layer != LOGITS:
            assert list(place.carried) == [NAMES, *KINDS, *FRESH_KINDS]
            names = place.carried[NAMES]
            assert 120 <= names.queries <= 128, "a class that is never predicted cannot be judged"
            assert names.methods["attribution"].value > 2 * names.methods["random"].value, place.title
            assert {"output_only", "random_encoder"} < set(names.leads)
    learned = units(target, "layer4", "features").carried[NAMES].methods
    assert learned["oracle"].value > 80


def test_curves_are_of_the_neurons_of_the_last_layer_alone(target: Target) -> None:
    assert [place.layer for place in target.places if place.curves] == ["layer4"]
    found = units(target, "layer4", "neurons").curves
    assert found is not None
    assert (found.units, found.queries) == ((1, 5), 6)
    assert set(found.carried) == set(found.removed) == set(CURVED)
    assert found.removed["attribution"][1] < found.removed["attribution"][0] <= 0


def test_the_logits_test_the_measures_themselves(target: Target) -> None:
    tested = units(target, LOGITS, "neurons").sanity
    assert set(tested) == set(TESTED)
    assert min(tested["correlation"].missing, tested["correlation"].extra, tested["auprc"].missing) > 95
    assert tested["recall"].missing < 90
    assert not units(target, "layer4", "neurons").sanity


def test_the_sentences_are_on_every_kind_of_label_and_query(evaluated: tuple[Result, list[str], Path]) -> None:
    said = findings(evaluated[0], "emoji-resnet")
    *compared, encoder, directions = said
    assert len(compared) == 2 + 7
    assert all("baseline wins in" in sentence for sentence in compared)
    assert "of 12 comparisons" in encoder
    assert "learned against random directions: layer3 " in directions


def test_features_stand_beside_the_neurons_of_a_layer_with_a_dictionary(target: Target) -> None:
    assert {place.name for place in target.places if place.units == "features"} == {
        "layer3/dictionaries/topk-256", "layer4/dictionaries/topk-512",
    }  # fmt: skip
    names = units(target, "layer4", "features").localizations[NAMES]
    assert names.evidence is not None
    assert names.evidence.trusted_share == 100
    assert names.evidence.trusted == names.verdict
    assert names.evidence.doubtful is None
    synonyms = units(target, "layer4", "features").localizations["synonyms"].evidence
    assert synonyms is not None
    assert 0 <= synonyms.trusted_share <= 100


def test_the_logits_are_described_over_an_open_vocabulary(target: Target) -> None:
    emoji = units(target, LOGITS, "neurons").descriptions["emoji"]
    assert emoji.size == 1436
    found = emoji.methods["filter"]
    assert found.exact is not None
    assert found.exact > 50
    assert set(found.similarity) == {"clip", "sentence"}
    assert all(figure.value > 3 * figure.null for figure in found.similarity.values())
    assert not units(target, "layer4", "neurons").descriptions


def test_the_default_localisation_is_far_above_the_controls(target: Target) -> None:
    found = units(target, "layer4", "neurons").localizations[NAMES]
    removed = {method: effects.scale_0.target.value for method, effects in found.methods.items()}
    assert removed["attribution"] < -5
    assert abs(removed["random"]) < 3
    assert abs(removed["shuffled"]) < 3
    share = found.verdict.scale_0.share_of_oracle
    assert share is not None
    assert share.value > 0.8


def test_hidden_classes_are_named_and_localized_by_text_alone(target: Target) -> None:
    assert target.unseen is not None
    assert len(set(target.unseen.classes)) == 4
    assert {place.layer for place in target.unseen.places} == {"layer3", "layer4"}
    for place in target.unseen.places:
        by_text = [method.name for method in METHODS if method.by_text_alone]
        assert list(place.localization.methods) == [*by_text, "oracle"]
        assert place.localization.methods["oracle"].scale_0.target.value < 0


def test_the_cost_has_every_step_and_the_steps_that_each_builds_on(target: Target) -> None:
    cost = target.cost
    assert cost is not None
    assert cost.layer == "layer4"
    assert set(cost.needs) == {method.name for method in METHODS if method.price}
    for needs in cost.needs.values():
        assert set(needs) <= set(cost.steps)
    assert cost.steps["attributions"].gflop > cost.steps["activations"].gflop > 10
    assert min(step.seconds for step in cost.steps.values()) > 0


def test_shuffled_labels_drop_agreement_to_the_null(target: Target) -> None:
    agreement = units(target, LOGITS, "neurons").agreement
    for method in ("default", "filter", "pattern", "causal", "clip_dissect", "semanticlens"):
        found = agreement[method]
        assert found.auprc.value > 4 * found.auprc.null, method
        assert found.auprc.null < 0.05, method


def test_what_judges_and_what_labels_are_made_from_is_said(target: Target) -> None:
    assert target.judged_on == "2,048 images of held-out-twemoji"
    assert target.aligned_on == "384 images of few"


def test_the_result_is_read_as_it_was_written_and_its_tables_can_be_shown(
    evaluated: tuple[Result, list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(evaluated[0], tmp_path / "result.json")
    assert read_result(tmp_path / "result.json") == evaluated[0]
    evaluation_tables.show(evaluated[0])
    shown = capsys.readouterr().out
    assert "where simple baselines win" in shown
    assert "what the encoder adds" in shown
    assert {"findings", "labels", "carried", "encoder", "curves", "verdict", "trust", "sanity"} <= set(
        evaluation_tables.sections(evaluated[0], "emoji-resnet")
    )


def test_progress_names_what_is_done_and_a_whole_evaluation_leaves_no_records(
    evaluated: tuple[Result, list[str], Path],
) -> None:
    _, stages, store = evaluated
    assert "emoji-resnet seed 0: interventions layer4" in stages
    assert not (store / "interventions").exists()
