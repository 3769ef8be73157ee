"""Labels are judged on images that nothing saw, by what units drive and by what they are active for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miclip.evaluation.carrying import carried_shares, summarise_carried
from miclip.evaluation.findings import findings
from miclip.evaluation.judge import Judge, judges
from miclip.evaluation.labelling import Labelling, _surest, label_figures
from miclip.evaluation.queries import Query
from miclip.evaluation.random_dictionary import random_dictionary, with_random_dictionaries
from miclip.evaluation.result import Result, Target
from miclip.models.preprocessing import Preprocessing
from miclip.models.sae import Activation, SaeConfig, SparseAutoencoder
from miclip.models.target import TargetModel
from tests.unit.evaluation.report.made import CARDS, carried, units
from tests.unit.evaluation.report.made import label_figures as shares

CLASSES = 8


def _judge(effect: np.ndarray, activation: np.ndarray, layer: str = "mid") -> Judge:
    """Five images a class, each with the attributions and activations of its class, ``[K, d]``."""
    labels = np.tile(np.arange(CLASSES), 5)
    activations, attributions = activation[labels].astype(np.float32), effect[labels].astype(np.float32)
    return Judge(layer, activations, attributions, labels, labels, CLASSES)


def test_a_unit_drives_and_is_active_for_different_classes() -> None:
    """Unit 0 is active for class 0 and lowers it; it drives class 6 alone. Unit 1 does nothing."""
    effect, activation = np.zeros((CLASSES, 2)), np.zeros((CLASSES, 2))
    effect[0, 0], effect[6, 0], activation[0, 0] = -2, 1, 5
    judge = _judge(effect, activation)
    assert np.flatnonzero(judge.drives[:, 0]).tolist() == [6], "a class that is not raised is not driven"
    assert np.flatnonzero(judge.excites[:, 0]).tolist() == [0]
    assert judge.live.tolist() == [True, False]
    assert not judge.drives[:, 1].any()
    assert not judge.excites[:, 1].any()


def test_at_most_five_classes_are_right_and_a_logit_has_its_own() -> None:
    effect = np.arange(1, CLASSES + 1)[:, None] * np.ones((1, CLASSES))
    judge = _judge(effect, effect)
    assert np.flatnonzero(judge.drives[:, 0]).tolist() == [3, 4, 5, 6, 7]
    assert np.array_equal(_judge(effect, effect, "logits").drives, np.eye(CLASSES, dtype=bool))


def test_a_class_without_images_excites_nothing() -> None:
    labels = np.array([0, 0, 1, 1])
    values = np.array([[1.0], [1.0], [3.0], [3.0]], np.float32)
    judge = Judge("mid", -values, values, labels, labels, 4)
    assert np.flatnonzero(judge.excites[:, 0]).tolist() == [0]


def _labelling(right: list[int], kept: list[int], counted: list[int] | None = None) -> Labelling:
    drives, given = np.array(right, bool), np.array(kept, bool)
    live = np.ones(len(right), bool) if counted is None else np.array(counted, bool)
    return Labelling(np.zeros(len(right), np.int64), live, given & live, drives, ~drives)


def test_all_units_come_first_then_coverage_and_what_is_kept() -> None:
    found = label_figures([_labelling([1, 1, 0, 0, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0])])
    assert (found.drives.value, found.active.value, found.coverage) == (50.0, 50.0, 50.0)
    assert found.kept_drives is not None
    assert found.kept_active is not None
    assert (found.kept_drives.value, found.kept_active.value) == (100.0, 0.0)
    nothing = label_figures([_labelling([1, 0], [0, 0])])
    assert (nothing.coverage, nothing.kept_drives, nothing.kept_active) == (0.0, None, None)


def test_seeds_of_one_unit_are_no_further_evidence() -> None:
    """Three seeds that agree have the interval of one: units are the sample."""
    rng = np.random.default_rng(0)
    right = rng.integers(2, size=60).tolist()
    one, three = (label_figures([_labelling(right, [1] * 60)] * seeds) for seeds in (1, 3))
    assert (one.drives.low, one.drives.high) == (three.drives.low, three.drives.high)
    assert one.drives.high - one.drives.low == pytest.approx(2 * 196 * 0.5 / 60**0.5, rel=0.25)


def test_every_method_keeps_as_many_as_miclip_the_surest() -> None:
    live = np.array([1, 1, 0, 1, 1], bool)
    assert _surest(np.array([1.0, 4, 9, 3, 2]), live, 2).tolist() == [False, True, False, True, False]
    assert _surest(None, live, 2).tolist() == live.tolist()
    assert not _surest(np.ones(5), live, 0).any()


EFFECTS = np.array([[4, 2, 1, 0], [0, 0, 0, 8], [0, 0, 0, 0]], np.float32)


def test_units_carry_a_share_of_what_the_best_carry() -> None:
    queries = [Query("a", (0,)), Query("b", (1,)), Query("both", (0, 1)), Query("never", (2,))]
    units = np.array([[1, 2], [0, 3], [3, 0], [0, 1]])
    shares = carried_shares(EFFECTS, queries, units, 2)
    assert shares[:3].tolist() == [50.0, 100.0, 100.0]
    assert np.isnan(shares[3]), "no image is taken for the class"
    assert carried_shares(EFFECTS, queries, units, 1)[:3].tolist() == [50.0, 0.0, 100.0]


def test_what_is_carried_is_averaged_over_seeds_and_compared_query_by_query() -> None:
    first, second = np.array([100.0, 50.0, np.nan]), np.array([80.0, 50.0, np.nan])
    methods = {"output_only": [first - 10, second - 10], "attribution": [first, second], "oracle": [first, first]}
    found = summarise_carried(methods, [np.array([True, False, True])] * 2)
    assert found is not None
    assert found.queries == 2
    assert found.methods["attribution"].value == 70.0
    assert (found.leads["output_only"].low, found.leads["output_only"].high) == (10.0, 10.0), "paired"
    assert set(found.leads) == {"output_only"}
    assert found.best_other == "output_only"
    assert found.trusted is not None
    assert found.doubtful is not None
    assert (found.trusted_share, found.trusted.value, found.doubtful.value) == (50.0, 90.0, 50.0)
    assert summarise_carried({"attribution": [np.array([np.nan])]}, [np.array([True])]) is None


class _Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mid, self.head = nn.Identity(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mid(x.flatten(1)[:, :6]))


def _model() -> TargetModel:
    torch.manual_seed(0)
    weights = {"W_enc": torch.randn(6, 10), "b_enc": torch.zeros(10), "W_dec": torch.randn(10, 6),
               "b_dec": torch.randn(6)}  # fmt: skip
    sae = SparseAutoencoder("topk", "mid", SaeConfig(Activation.TOPK, k=3), weights)
    return TargetModel(
        "linear", _Linear(), labels=("a", "b", "c"), modules=("mid",),
        preprocessing=Preprocessing(8, resize="squash"), dictionaries=[sae],
    )  # fmt: skip


def test_a_random_dictionary_has_the_size_and_k_of_the_learned_one_and_directions_of_length_1() -> None:
    model = with_random_dictionaries(_model(), ("mid",))
    drawn, learned = model.dictionaries["mid/dictionaries/random-topk"], model.dictionaries["mid/dictionaries/topk"]
    assert (drawn.features, drawn.config) == (learned.features, learned.config)
    assert torch.allclose(drawn.W_dec.norm(dim=1), torch.ones(10))
    assert torch.equal(drawn.W_enc, drawn.W_dec.T)
    assert torch.equal(drawn.b_dec, learned.b_dec)
    assert not torch.equal(drawn.W_dec, random_dictionary(learned, seed=1).W_dec)
    assert int((drawn.encode(torch.randn(4, 6)).values > 0).sum(dim=1).max()) <= 3
    assert model.weights_sha256 == _model().weights_sha256


def test_the_judge_runs_every_layer_on_the_judging_images() -> None:
    model, images = _model(), torch.randn(9, 3, 8, 8)
    labels = torch.tensor([0, 1, 2] * 3)
    predicted, found = judges(model, images, labels, ["mid", "mid/dictionaries/topk", "logits"])
    output = model.forward(images, ["mid"])
    assert predicted.tolist() == output.logits.argmax(dim=1).tolist()
    assert np.allclose(found["mid"].activations, output.activations["mid"], atol=1e-6)
    assert found["mid"].labels.tolist() == labels.tolist()
    assert found["mid/dictionaries/topk"].attributions.shape == (9, 10)
    assert found["logits"].live.all()


def test_sentences_say_what_simple_baselines_win_first_and_compare_with_random_directions() -> None:
    labels = {"default": shares(70.0, 50.0), "clip_dissect": shares(60.0, 55.5)}
    ahead = carried({"attribution": 80.0}, {"clip_dissect": 3.0, "output_only": 6.0, "random_encoder": 5.0})
    places = (
        units(labels=labels, carried={"fresh_synonyms": ahead}),
        units(kind="features", labels=labels, dictionary="topk"),
        units(kind="random features", labels={"default": shares(64.0, 20.0)}, dictionary="random-topk"),
    )
    target = Target(seeds=1, held_out_top1=80.0, judged_on="", aligned_on="", places=places, unseen=None, cost=None)
    first, second, third, encoder, directions = findings(Result(methods=CARDS, targets={"toy": target}), "toy")
    assert "active for: a simple baseline wins in 2 of 2 places (mid, neurons: CLIP-Dissect, 55.5 against 50.0" in first
    assert second.endswith("judged by what units drive: no simple baseline wins in any of 2 places.")
    assert third.startswith("Attribution carried by the units of fresh synonyms: no simple baseline wins")
    assert encoder.startswith("The encoder pays on fresh queries: of 1 comparisons")
    assert directions.endswith("learned against random directions: mid 70.0 against 64.0 %.")
