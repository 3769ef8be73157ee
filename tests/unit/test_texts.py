"""Texts of all scripts pass; what would break a line or a terminal does not."""

from __future__ import annotations

import pytest

from miclip.errors import InvalidInput
from miclip.texts import check_text, is_kind_of, is_name, negation


@pytest.mark.parametrize("text", ["dog", "👨‍👩‍👧", "שלום", "می‌خواهم", "犬", "e\u0301", "x" * 10, " both ends "])
def test_a_text_of_any_script_passes(text: str) -> None:
    assert check_text(text, "texts[0]", 10) == text.strip()


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "a\tb", "\x1b[31m", "\x7f", "a\x9b31m", "a\u2028b", "\ud800"])
def test_control_characters_and_line_breaks_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="control characters") as caught:
        check_text(text, "texts[0]", 10)
    assert (caught.value.field, caught.value.allowed) == ("texts[0]", "1 to 10 printable characters")


@pytest.mark.parametrize("text", ["", "  ", "x" * 11])
def test_a_text_of_the_wrong_length_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 10"):
        check_text(text, "texts[0]", 10)


def test_a_text_that_may_be_missing_may_be_empty() -> None:
    assert check_text(" ", "description", 10, empty=True) == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("not a dog", "not"),
        ("a dog without a tail", "without"),
        ("it isn’t red", "isn't"),
        ("Non-metal things", "non-metal"),
        ("No dogs", "no"),
        ("a knot of notes", ""),
        ("nonsense", ""),
        ("north", ""),
    ],
)
def test_a_negated_text_is_known_by_its_word(text: str, word: str) -> None:
    assert negation(text) == word


@pytest.mark.parametrize(
    ("label", "text", "kind"),
    [
        ("African elephant", "elephant", True),
        ("African elephant", "the elephants", True),
        ("fire engine", "Engine", True),
        ("great white shark", "white sharks", True),
        ("greenhouse", "house", False),
        ("Christmas tree", "Christmas", False),
        ("glass", "glas", False),
        ("elephant", "African elephant", False),
        ("dog", "", False),
        ("dog", "a", False),
    ],
)
def test_a_label_names_a_kind_of_what_it_ends_with(label: str, text: str, kind: bool) -> None:
    assert is_kind_of(label, text) == kind


@pytest.mark.parametrize("label", ["", " ", "output 3", "LABEL_17", "class-4", "n01440764"])
def test_a_number_of_an_output_is_no_name(label: str) -> None:
    assert not is_name(label)


@pytest.mark.parametrize("label", ["dog", "7", "class", "label maker", "output", "boeing 747", "n1"])
def test_what_says_something_is_a_name(label: str) -> None:
    assert is_name(label)
