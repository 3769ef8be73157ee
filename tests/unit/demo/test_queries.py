"""Texts that people type are judged by the classes they cover."""

from __future__ import annotations

import numpy as np

from miclip.demo.concepts import CLASSES
from miclip.demo.queries import FRESH_KINDS, KINDS, demo_queries, fresh_queries
from miclip.evaluation.queries import Query, class_names, coverage, spread


def test_a_query_of_several_classes_takes_the_mean_of_their_scores() -> None:
    scores = np.array([[2, 0], [4, 6], [9, 9]], np.float32)
    shares = coverage([Query("pet", (0, 1)), Query("bus", (2,))], 3)
    assert (shares @ scores).tolist() == [[3, 3], [9, 9]]


def test_names_are_queries_of_one_class() -> None:
    assert class_names(["dog", "cat"]) == (Query("dog", (0,)), Query("cat", (1,)))


def test_fewer_queries_are_spread_over_all() -> None:
    queries = class_names([str(n) for n in range(10)])
    assert [query.text for query in spread(queries, 4)] == ["0", "2", "5", "7"]
    assert spread(queries, 99) == queries


def test_no_shipped_query_is_a_class_name_and_every_class_it_covers_is_one() -> None:
    queries = demo_queries()
    names = {name.lower() for name in CLASSES}
    assert {kind: len(found) >= 20 for kind, found in queries.items()} == dict.fromkeys(queries, True)
    for query in (query for found in queries.values() for query in found):
        assert query.text not in names
        assert query.classes
        assert all(0 <= label < len(CLASSES) for label in query.classes)


def test_a_synonym_covers_one_class_and_a_category_several() -> None:
    queries = demo_queries()
    assert {len(query.classes) for query in queries["synonyms"]} == {1}
    assert min(len(query.classes) for query in queries["categories"]) == 2
    meant = {query.text: CLASSES[query.classes[0]] for query in queries["synonyms"]}
    assert (meant["spanner"], meant["coffee"]) == ("wrench", "hot beverage")
    fruit = next(query for query in queries["categories"] if query.text == "fruit")
    assert {"banana", "pear"} <= {CLASSES[label] for label in fruit.classes}


def test_fresh_queries_are_hundreds_and_none_is_a_tag_query_or_repeated_within_its_kind() -> None:
    fresh, queries = fresh_queries(), demo_queries()
    assert tuple(queries) == (*KINDS, *FRESH_KINDS)
    assert sum(map(len, fresh.values())) > 300
    tags = {query.text for kind in KINDS for query in queries[kind]}
    texts = [query.text for kind in FRESH_KINDS for query in fresh[kind]]
    assert not tags & set(texts)
    assert len(set(texts)) == len(texts)


def test_fresh_queries_mean_what_wordnet_says() -> None:
    meant = {query.text: {CLASSES[label] for label in query.classes}
             for found in fresh_queries().values() for query in found}  # fmt: skip
    assert meant["knapsack"] == {"backpack"}
    assert meant["timepiece"] == {"watch", "alarm clock"}
    assert meant["a small portable timepiece"] == {"watch"}
    assert max(map(len, meant.values())) <= len(CLASSES) // 8


def test_no_gloss_holds_a_word_of_its_class() -> None:
    for query in fresh_queries()["fresh_glosses"]:
        assert not set(CLASSES[query.classes[0]].lower().split()) & set(query.text.split()), query.text
