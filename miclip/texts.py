"""What a text of a request may be."""

from __future__ import annotations

import re
import unicodedata

from miclip.errors import InvalidInput

_REFUSED = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control characters, halves of surrogate pairs, separators of lines and paragraphs. Joiners and
marks of direction (Cf) pass: emoji of families, Persian and Hebrew need them."""


def check_text(text: str, field: str, max_chars: int, *, empty: bool = False) -> str:
    """Return a text without the white space around it.

    Args:
        text: From a request.
        field: Path of its field, for messages.
        max_chars: Most characters.
        empty: Whether it may have none.

    Raises:
        InvalidInput: it is empty or too long, or holds control characters.
    """
    stripped = text.strip()
    low, count = 0 if empty else 1, len(stripped)
    allowed = f"{low} to {max_chars} printable characters"
    if not low <= count <= max_chars:
        raise InvalidInput(f"{field} has {count} characters; allowed is {allowed}.", field=field, allowed=allowed)
    if any(unicodedata.category(character) in _REFUSED for character in stripped):
        problem = "holds control characters or line breaks"
        raise InvalidInput(f"{field} {problem}; allowed is {allowed}.", field=field, allowed=allowed)
    return stripped


_NO_NAME = re.compile(r"|(?:output|class|label)[ _-]?\d+|n\d{8}", re.ASCII | re.IGNORECASE)


def is_name(label: str) -> bool:
    """Whether a label says what its output is.

    An empty one does not, nor does a number behind "output", "class" or "label" (as in ``LABEL_7``), nor an offset of
    WordNet (``n01440764``). A number alone is a name: a digit may be what is seen.
    """
    return _NO_NAME.fullmatch(label.strip()) is None


_WORDS = re.compile(r"[\w'’-]+")
_NEGATIONS = frozenset(
    {"not", "no", "non", "never", "without", "neither", "nor", "none", "nothing", "except", "cannot"}
)
_ARTICLES = frozenset({"a", "an", "the"})


def negation(text: str) -> str:
    """Return the word that negates a text ("not a dog", "non-metal", "isn't red"); empty where none does."""
    for word in _WORDS.findall(text.lower().replace("’", "'")):
        if word in _NEGATIONS or word.startswith("non-") or word.endswith("n't"):
            return str(word)
    return ""


def is_kind_of(label: str, text: str) -> bool:
    """Whether a label ends with the words of a text, and so names a kind of it: "African elephant" of "elephants"."""
    asked, words = _content(text), _content(label)
    return bool(asked) and words[-len(asked) :] == asked


def _content(text: str) -> list[str]:
    """The words of a text in lower case, without articles and the s of a plural."""
    words = (word for word in _WORDS.findall(text.lower()) if word not in _ARTICLES)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
