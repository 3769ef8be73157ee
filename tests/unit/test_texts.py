"""Texts of all scripts pass; what would break a line or a terminal does not."""

from __future__ import annotations

import pytest

from miclip.errors import InvalidInput
from miclip.texts import check_text


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
