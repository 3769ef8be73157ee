"""Interventions that resume from the edited layer, and the rankings they are fed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miclip.evaluation.figures import Figure
from miclip.evaluation.intervention import Change, Laboratory, expected_distance, intervene, recorded
from miclip.evaluation.methods import ProbeData, class_means, ranking
from miclip.evaluation.methods._images import strongest
from miclip.evaluation.methods.clip_dissect import clip_dissect
from miclip.evaluation.methods.controls import random_scores
from miclip.evaluation.methods.mean_activation import z_mean_activation
from miclip.evaluation.methods.semanticlens import semantic_lens
from miclip.evaluation.methods.white_boxes import last_weight, weight_times_activation
from miclip.evaluation.resume import layer_output, resume_from
from miclip.evaluation.summary import summarise, verdict
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import small_resnet, small_vit
from miclip.models.target import TargetModel


@pytest.mark.parametrize(
    ("build", "layer"),
    [(small_resnet, "layer3"), (small_resnet, "layer4"), (small_vit, "blocks.1"), (small_vit, "norm")],
)
def test_the_resumed_network_gives_the_whole_networks_logits(build, layer: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = build(7).eval()
    images = torch.randn(5, 3, 64, 64)
    rest = resume_from(network, layer)
    assert rest is not None
    with torch.inference_mode():
        assert torch.allclose(rest(layer_output(network, layer, images)), network(images), atol=1e-5)


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


class _Undecided(_Skip):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("network", [_Skip(), _Undecided()])
def test_a_network_that_needs_more_than_the_layer_is_not_resumed(network: nn.Module) -> None:
    assert resume_from(network, "first") is None


class _Planted(nn.Module):
    """Channel ``c`` of the image is unit ``c``, which alone carries class ``c``."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.units(x)).flatten(1)


def _laboratory(whole: bool = False, watched: int | None = None) -> Laboratory:
    model = TargetModel(
        "planted", _Planted(), labels=("red", "green", "blue"), modules=("units",),
        preprocessing=Preprocessing(8, resize="squash"),
    )  # fmt: skip
    labels = torch.arange(3).repeat(4)
    images = 0.6 + torch.zeros(12, 3, 8, 8)
    images[torch.arange(12), labels] += 0.5
    laboratory = Laboratory(model, "units", images, labels, other_views=2, other_classes=watched)
    if whole:
        laboratory._rest = None
    return laboratory


@pytest.mark.parametrize("whole", [False, True])
def test_removing_a_planted_unit_removes_its_class_and_no_other(whole: bool) -> None:
    laboratory = _laboratory(whole)
    for target in range(3):
        change = laboratory.change([target], [target], 0.0)
        assert (change.target, change.others) == (-100.0, 0.0)
        assert laboratory.change([target], [(target + 1) % 3], 0.0).target == 0.0


def test_side_effects_are_reported() -> None:
    change = _laboratory().change([0], [1, 2], 0.0)
    assert (change.target, change.others) == (0.0, -100.0)


def test_a_query_of_two_classes_is_judged_by_both_and_by_the_classes_beside_them() -> None:
    change = _laboratory().change([0, 1], [0], 0.0)
    assert (change.target, change.others) == (-50.0, 0.0)
    assert _laboratory().change([0, 1], [2], 0.0) == Change(0.0, -100.0, 100.0, noise=50.0)


def test_a_few_classes_can_stand_for_the_others() -> None:
    """Of the classes 0, 1 and 2 the first two are watched."""
    laboratory = _laboratory(watched=2)
    assert laboratory.change([0], [2], 0.0) == Change(0.0, 0.0, 0.0)
    assert laboratory.change([2], [0], 0.0) == Change(0.0, -50.0, 50.0, noise=25.0)


def test_classes_of_different_size_are_watched_by_as_many_images_as_the_rarest_has() -> None:
    """Class 2 has one image only: one image of every class measures the side effects."""
    laboratory = _laboratory()
    kept = torch.tensor([0, 3, 6, 1, 4, 2])  # three of class 0, two of class 1, one of class 2
    few = Laboratory(laboratory._model, "units", laboratory._images[kept], laboratory._labels[kept], other_views=9)
    assert few._others.tolist() == [0, 3, 5]
    assert few.change([0], [0, 1], 0.0) == Change(-100.0, -50.0, 50.0, noise=50.0)


def test_intervene_takes_the_top_of_the_ranking() -> None:
    ranking = np.array([[0, 1, 2], [1, 0, 2], [0, 1, 2]])
    changes = intervene(_laboratory(), ranking, [[0], [1], [2]], top=1)
    assert [change.target for change in changes["scale_0"]] == [-100.0, -100.0, 0.0]
    assert [change.target for change in changes["scale_2"]] == [0.0, 0.0, -100.0]


def test_gains_and_losses_of_others_do_not_cancel_in_specificity() -> None:
    change = _laboratory().change([0], [0], 4.0)  # every image becomes class 0: the other two classes lose all
    assert (change.target, change.others, change.others_absolute) == (0.0, -100.0, 100.0)
    flat = summarise([[Change(50.0, 0.0, 25.0), Change(100.0, 0.0, 50.0)]], 1)
    assert flat.specificity.value == pytest.approx(0.5)
    assert (flat.target.value, flat.others.value) == (75.0, 0.0)


def _span(figure: Figure) -> tuple[float, float]:
    return figure.low, figure.high


def test_intervals_take_classes_not_seeds_as_the_sample() -> None:
    alike = [[Change(10.0, 0.0, 0.0)] * 30 for _ in range(3)]
    assert _span(summarise(alike, 1).target) == (10.0, 10.0)
    opposed = [[Change(10.0, 0.0, 0.0)] * 30, [Change(-10.0, 0.0, 0.0)] * 30]
    assert _span(summarise(opposed, 1).target) == (0.0, 0.0)
    spread = [[Change(float(value), 0.0, 0.0) for value in range(30)]]
    low, high = _span(summarise(spread, 1).target)
    assert low < 14.5 < high
    assert 4 < high - low < 9  # ± 1.96 · 8.66 / √30


def test_a_change_of_nothing_is_not_specific_without_end() -> None:
    assert summarise([[Change(0.0, 0.0, 0.5)]], 1).specificity.value == pytest.approx(0.5)


def _probe(activations: np.ndarray, predicted: list[int], weight: np.ndarray | None = None) -> ProbeData:
    """Two classes; nothing that a method of activations looks at is left out."""
    nothing = np.zeros_like(activations)
    return ProbeData(activations, nothing, np.array(predicted), nothing, np.zeros((2, 4), np.float32), weight)


def test_mean_activation_ranks_by_the_mean_over_the_predicted_class() -> None:
    activations = np.array([[1, 0, 5], [3, 0, 0], [0, 9, 1]], np.float32)
    means = class_means(activations, np.array([0, 0, 1]), 2)
    assert ranking(means).tolist() == [[2, 0, 1], [1, 2, 0]]


def test_standardised_means_forget_how_loud_a_unit_is() -> None:
    activations = np.array([[100, 1], [100, 0], [101, 0], [101, 0]], np.float32)
    scores = z_mean_activation(_probe(activations, [0, 0, 1, 1]))
    assert scores.argmax(axis=1).tolist() == [1, 0]


def test_weight_times_activation_is_the_logits_share() -> None:
    weight = np.array([[1, -2], [0, 3]], np.float32)
    activations = np.array([[2, 1], [4, 5]], np.float32)
    scores = weight_times_activation(_probe(activations, [0, 1], weight))
    assert scores is not None
    assert scores.tolist() == [[2, -2], [0, 15]]
    assert weight_times_activation(_probe(activations, [0, 1])) is None


def test_soft_wpmi_is_its_formula() -> None:
    generator = np.random.default_rng(0)
    activations = generator.standard_normal((150, 6)).astype(np.float32)
    images, texts = (generator.standard_normal((n, 16)).astype(np.float32) for n in (150, 9))
    images, texts = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (images, texts))
    found = clip_dissect(activations, images, texts)
    likelihood = np.zeros((6, 9))
    for unit in range(6):
        for concept in range(9):
            for r, image in enumerate(sorted(range(150), key=lambda i: -activations[i, unit])[:100]):
                exponents = [np.exp(10 * float(images[image] @ text)) for text in texts]
                probability = exponents[concept] / sum(exponents)
                likelihood[unit, concept] += np.log(1 + (0.998 - 0.028 * r / 100) * (probability - 1) + 1e-7)
    prior = np.log(np.exp(likelihood).sum(axis=0)) - np.log(6)
    assert np.allclose(found, (likelihood - prior).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", [clip_dissect, semantic_lens])
def test_a_planted_concept_is_found_by_the_baseline(method) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(1)
    texts = np.eye(8, dtype=np.float32)
    shown = generator.integers(8, size=1200)
    images = texts[shown] + 0.1 * generator.standard_normal((1200, 8)).astype(np.float32)
    activations = generator.random((1200, 8)).astype(np.float32)
    activations[np.arange(1200), (shown + 3) % 8] += 2  # unit c + 3 fires for concept c
    scores = method(activations, images / np.linalg.norm(images, axis=1, keepdims=True), texts)
    assert scores.argmax(axis=0).tolist() == [(unit - 3) % 8 for unit in range(8)]


class _Flat(nn.Module):
    """Three units, read by a linear layer; and three that stand before a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.units, self.head = nn.Identity(), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(self.before(x.mean(dim=(2, 3)))))


def test_the_last_weight_is_that_of_the_layer_that_the_logits_are_made_of_and_of_no_other_of_its_width() -> None:
    torch.manual_seed(0)
    model = TargetModel(
        "flat", _Flat(), labels=("a", "b"), modules=("before", "units"), preprocessing=Preprocessing(8, resize="squash")
    )
    images = torch.randn(9, 3, 8, 8)
    weight = last_weight(model, "units", images)
    assert weight is not None
    assert np.array_equal(weight, model.module.head.weight.detach().numpy())
    assert last_weight(model, "before", images) is None
    assert last_weight(model, "logits", images) is None


def test_random_scores_differ_by_seed_and_class() -> None:
    scores = random_scores(4, 50, seed=0)
    assert not np.array_equal(scores, random_scores(4, 50, seed=1))
    assert len(np.unique(scores)) == scores.size


def _changes(*targets: float) -> list[list[Change]]:
    return [[Change(target, 0.0, 1.0) for target in targets]]


def test_weighted_change_is_target_times_specificity_and_is_not_clipped() -> None:
    found = summarise([[Change(-20.0, 0.0, 5.0), Change(-20.0, 0.0, 5.0)]], -1)
    assert found.weighted.value == pytest.approx(-20 * (1 - 5 / 20))
    assert _span(found.weighted) == pytest.approx((-15, -15))
    assert summarise([[Change(-2.0, 0.0, 5.0)]], -1).weighted.value == 3.0, "more harm than good is worse than nothing"
    assert summarise([[Change(-2.0, 0.0, 5.0)]], 1).weighted.value == -7.0, "a loss where a gain was wanted"


def test_what_chance_explains_is_no_side_effect() -> None:
    """Four images of every class: one that changes is no evidence, all that change alike are."""
    by_chance = summarise([[Change(-20.0, 0.0, 6.0, noise=6.0)]], -1)
    assert (by_chance.side_effect.value, by_chance.noise, by_chance.specificity.value) == (0.0, 6.0, 1.0)
    assert by_chance.weighted.value == -20.0
    alike = summarise([[Change(-20.0, -6.0, 6.0, noise=6.0)]], -1)
    assert (alike.side_effect.value, alike.weighted.value) == (6.0, -14.0), "a mean change of all is never noise"


def test_the_noise_is_the_mean_distance_of_a_walk_of_as_many_steps() -> None:
    assert [expected_distance(steps) for steps in range(6)] == [0.0, 1.0, 1.0, 1.5, 1.5, 1.875]
    walks = np.random.default_rng(0).choice([-1, 1], size=(20_000, 7)).sum(axis=1)
    assert expected_distance(7) == pytest.approx(np.abs(walks).mean(), rel=0.03)


def test_the_verdict_takes_the_best_other_and_leaves_the_white_boxes_out() -> None:
    methods = {"random": _changes(-1, -1), "filter": _changes(-6, -6), "attribution": _changes(-9, -9),
               "weight_x_activation": _changes(-30, -30), "oracle": _changes(-11, -11)}  # fmt: skip
    found = verdict(methods, sign=-1)
    assert found.best_baseline == "filter"
    assert found.lead.value == pytest.approx(8 - 5)  # the side effect takes one point of each
    assert found.share_of_oracle is not None
    assert found.share_of_oracle.value == pytest.approx(8 / 10)
    assert verdict(methods, sign=1).lead.value < 0  # where a gain is wanted, a loss is none


def test_an_intervention_that_was_recorded_is_not_measured_again(tmp_path: Path) -> None:
    measured, ticks = [], []

    def measure(tick) -> dict[str, list[Change]]:  # type: ignore[no-untyped-def]
        tick()
        measured.append(1)
        return {"scale_0": [Change(-3.0, 0.25, 0.5, 0.125)]}

    found = [recorded(tmp_path, ["layer", [[1, 2]]], 1, lambda: ticks.append(1), measure) for _ in range(2)]
    assert found[0] == found[1] == {"scale_0": [Change(-3.0, 0.25, 0.5, 0.125)]}
    assert (len(measured), len(ticks)) == (1, 2)
    recorded(tmp_path, ["layer", [[1, 3]]], 1, lambda: None, measure)
    assert len(measured) == 2


def test_images_on_which_a_unit_is_silent_are_no_evidence_of_what_it_means() -> None:
    """Two units active on one image each, of 300; the images in front are of concept 2."""
    texts, activations = np.eye(3, dtype=np.float32), np.zeros((300, 2), np.float32)
    images = texts[np.array([2] * 150 + [0] * 75 + [1] * 75)]
    activations[200, 0] = activations[299, 1] = 1
    assert semantic_lens(activations, images, texts).argmax(axis=0).tolist() == [0, 1]


def test_a_sparse_unit_does_not_win_every_concept_by_a_shorter_sum() -> None:
    """Unit 0 is active on three images, unit 1 on all of concept 1: all 100 images count for both."""
    texts, activations = np.eye(3, dtype=np.float32), np.zeros((300, 2), np.float32)
    images = texts[np.array([2] * 100 + [0] * 100 + [1] * 100)]
    activations[[100, 101, 102], 0] = 1
    activations[200:, 1] = 1
    scores = clip_dissect(activations, images, texts)
    assert scores[1].argmax() == 1, "the unit of concept 1 has the higher score for it"
    assert scores[0].argmax() == 0
    rows = strongest(activations)
    assert rows.shape == (100, 2)
    assert set(rows[:3, 0].tolist()) == {100, 101, 102}
    silent = np.bincount(rows[3:, 0] // 100, minlength=3)
    assert silent.min() > 15, "silent images are drawn from all over the probe set"
