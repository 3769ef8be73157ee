"""Checks that many RPCs share: ranges, texts and pages."""

from __future__ import annotations

from typing import Any

import pytest

from miclip.errors import InvalidInput
from miclip.v1 import activation_pb2 as pb
from miclip.v1 import aligner_pb2
from services.rpc import check_range, check_text, page_of


@pytest.mark.parametrize("value", [1, 9])
def test_values_in_range_pass(value: int) -> None:
    assert check_range(value, "top_k", 1, 9) == value


@pytest.mark.parametrize("value", [0, 10, -1, 2**32 - 1])
def test_values_out_of_range_name_the_range(value: int) -> None:
    with pytest.raises(InvalidInput, match=r"n is .*1 to 9") as caught:
        check_range(value, "n", 1, 9)
    assert (caught.value.field, caught.value.allowed) == ("n", "1 to 9")


@pytest.mark.parametrize("text", ["", "   ", "x" * 11, "a\0b", "\x1b[31m"])
def test_texts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_text(text, "text", 10)


def test_pages_cover_everything_once() -> None:
    items, seen, token = list(range(25)), [], ""
    while True:
        page, token = page_of(items, pb.ListModelsRequest(page_size=10, page_token=token), 100)
        seen.extend(page)
        if not token:
            break
    assert seen == items


def test_the_size_of_a_page_may_change_on_the_way() -> None:
    _, token = page_of(range(9), pb.ListModelsRequest(page_size=2), 100)
    page, token = page_of(range(9), pb.ListModelsRequest(page_size=100, page_token=token), 100)
    assert (list(page), token) == (list(range(2, 9)), "")


@pytest.mark.parametrize("token", ["x", "LTE", "OTk5", "é", "a" * 2**20, "MS41", "MTA=", "OjE="])
def test_a_made_up_page_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        page_of(list(range(50)), pb.ListModelsRequest(page_size=2, page_token=token), 100)
    assert caught.value.field == "page_token"


@pytest.mark.parametrize(
    "other", [aligner_pb2.ListAtlasesRequest(model="models/b"), aligner_pb2.ListAlignmentsRequest()]
)
def test_a_page_token_of_another_list_is_refused(other: Any) -> None:
    _, other.page_token = page_of(range(50), aligner_pb2.ListAtlasesRequest(model="models/a", page_size=2), 100)
    with pytest.raises(InvalidInput) as caught:
        page_of(range(50), other, 100)
    assert caught.value.field == "page_token"
