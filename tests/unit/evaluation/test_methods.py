"""A method is one module: it registers itself, and every list has its name, its title and its place."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.atlas import Atlas
from miclip.evaluation import methods
from miclip.evaluation.methods import DEFAULT, METHODS, LayerData, label_units, named, rank_units
from miclip.evaluation.methods.signed_filter import signed_filter
from miclip.evaluation.queries import Query, class_names
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher

DOCUMENT = Path(__file__).parents[3] / "docs" / "evaluation.md"
EXAMPLE = "peak_activation"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The baseline of the documentation, as one new module of the package."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / f"{EXAMPLE}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "METHODS", methods._discovered())
    yield EXAMPLE
    del sys.modules[f"miclip.evaluation.methods.{EXAMPLE}"]


def test_the_baseline_of_the_documentation_is_found_ranks_and_has_its_place(example: str, atlas: Atlas) -> None:
    names = [method.name for method in methods.METHODS]
    assert names[names.index("z_mean_activation") + 1] == example
    assert len(names) == len(METHODS) + 1
    texts = np.asarray(atlas.label_embeddings, np.float32)
    data = LayerData(AtlasSearcher(atlas), "mid", seed=0)
    ranked = rank_units(data, class_names(atlas.manifest.labels), texts, 5)
    assert (ranked[example] % 8 == np.arange(8)[:, None]).all(), "unit i of this atlas is driven by class i % 8"
    assert example not in rank_units(data, class_names(atlas.manifest.labels), texts, 5, by_text_alone=True)


def test_two_methods_of_one_name_or_place_are_refused(example: str, tmp_path: Path) -> None:
    (tmp_path / "again.py").write_text(f"from miclip.evaluation.methods.{example} import METHODS\n")
    with pytest.raises(ValueError, match="same name"):
        methods._discovered()
    del sys.modules["miclip.evaluation.methods.again"]


def test_the_order_and_the_roles_of_the_shipped_methods_are_these() -> None:
    assert named() == (
        "random", "shuffled", "mean_activation", "z_mean_activation", "absolute_activation", "clip_dissect",
        "clip_dissect_attribution", "semanticlens", "semanticlens_attribution", "output_only", "mechanism",
        "random_encoder",
        "network_dissection", "filter", "signed_filter", "pattern", "causal", "attribution", "weight_x_activation",
        "oracle",
    )  # fmt: skip
    assert named("control") == ("random", "shuffled")
    assert named("whitebox") == ("weight_x_activation", "oracle")
    assert DEFAULT == "attribution"
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in named())


def test_every_method_says_what_it_knows_and_does_something() -> None:
    for method in METHODS:
        assert method.title
        assert method.knows
        assert method.rank or method.label, method.name
        assert (method.card.name, method.card.role) == (method.name, method.role)


def test_a_method_that_cannot_be_used_on_a_layer_is_left_out(atlas: Atlas) -> None:
    data = LayerData(AtlasSearcher(atlas), "mid", seed=0)
    texts = np.asarray(atlas.label_embeddings, np.float32)
    ranked = rank_units(data, class_names(atlas.manifest.labels), texts, 5)
    assert set(named()) - set(ranked) == {"weight_x_activation", "network_dissection"}
    assert list(label_units(data)) == [
        "default", "filter", "pattern", "causal", "clip_dissect", "clip_dissect_attribution", "semanticlens",
        "semanticlens_attribution", "signed_filter", "closed_vocabulary",
    ]  # fmt: skip


def test_output_only_is_the_search_that_looks_at_outputs_alone(atlas: Atlas) -> None:
    texts = np.asarray(atlas.label_embeddings, np.float32)
    data = LayerData(AtlasSearcher(atlas), "mid", seed=0)
    outputs = AtlasSearcher(atlas, LocalizationMix(0, 0, 1)).localize(texts, ["mid"], top_k=5)
    ranked = rank_units(data, class_names(atlas.manifest.labels), texts, 5)
    assert ranked["output_only"].tolist() == [[unit.unit for unit in answer.units] for answer in outputs]


def test_an_untrained_encoder_is_another_for_every_seed_and_leaves_the_atlas_as_it_is(atlas: Atlas) -> None:
    rng, trained = np.random.default_rng(5), np.array(atlas.layer("mid").encoder)
    texts = rng.standard_normal((30, len(trained))).astype(np.float32)
    queries = [Query(str(row), (row % 8,)) for row in range(30)]
    ranked = [rank_units(LayerData(AtlasSearcher(atlas), "mid", seed), queries, texts, 5) for seed in (0, 1)]
    assert not np.array_equal(ranked[0]["random_encoder"], ranked[1]["random_encoder"])
    assert np.array_equal(ranked[0]["attribution"], ranked[1]["attribution"])
    assert np.array_equal(ranked[0]["mechanism"], ranked[1]["mechanism"])
    assert not np.array_equal(ranked[0]["random_encoder"], ranked[0]["mechanism"])
    assert np.array_equal(atlas.layer("mid").encoder, trained)


def test_the_signed_filter_turns_the_filter_of_a_unit_that_is_typically_negative(recipe: Any, tmp_path: Path) -> None:
    turned = recipe()
    turned.tensors["mid"]["activations"][:, 3] *= -1
    turned.tensors["mid"]["centre"] = turned.tensors["mid"]["activations"].mean(0)
    atlas = turned.open(tmp_path)
    data = LayerData(AtlasSearcher(atlas), "mid", seed=0)
    scores = signed_filter(data, data.probe.names)
    plain = data.searcher.centre(data.probe.names) @ atlas.layer("mid").embedding("filter").T
    assert np.allclose(scores[:, 3], -plain[:, 3])
    assert np.allclose(np.delete(scores, 3, axis=1), np.delete(plain, 3, axis=1))


def test_of_two_methods_the_one_that_is_asked_by_text_says_so() -> None:
    assert {card.name: card.by_text_alone for card in (method.card for method in METHODS)}["output_only"]
    assert not next(method.card for method in METHODS if method.name == "oracle").by_text_alone
