"""Queries that nothing was trained on: what WordNet calls the demo's classes, what is above them, what they mean.

The images of the demo's CLIP were trained on texts that emojibase carries, so a text is asked only where no emoji has
it as its name, keyword or shortcode, in singular or plural; and no text is a class's name.

- *Fresh synonyms* are the other lemmas of a class's synset ("knapsack" for a backpack). Names of species are left out.
- *Fresh categories* are the synsets up to four steps above a class that cover at most an eighth of the classes, each by
  its first lemma that is fresh ("timepiece" for watch and alarm clock). They cover what WordNet puts below them.
- *Fresh glosses* are the definitions of the classes' synsets, without remarks and examples ("a small portable
  timepiece"); those that hold a word of the class's name are left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from miclip.demo.concepts import CLASSES
from miclip.demo.queries import FRESH_KINDS
from tools.demo_world.queries import WORDS, emoji_texts, singular
from tools.demo_world.senses import senses
from tools.demo_world.wordnet import Nouns

MOST_CLASSES = len(CLASSES) // 8
"""Classes that a category covers at most."""
STEPS = 4
"""Steps above a class that a category is at most; further up are "abstraction" and "process"."""


def build_fresh_queries(packages: Path) -> dict[str, dict[str, list[str]]]:
    """Return covered classes by text by kind, from the unpacked npm packages."""
    nouns = Nouns(packages / "wordnet")
    taken = {singular(text.lower()) for text in (*emoji_texts(packages), *CLASSES)}
    synsets = {name: nouns.senses[lemma][place] for name, (lemma, place) in senses().items()}
    synonyms = _synonyms(nouns, synsets, taken)
    categories = _categories(nouns, synsets, taken | {singular(text) for text in synonyms})
    return dict(zip(FRESH_KINDS, (synonyms, categories, _glosses(nouns, synsets)), strict=True))


def _synonyms(nouns: Nouns, synsets: dict[str, int], taken: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, synset in synsets.items():
        for lemma in _fresh(nouns.lemmas[synset], taken):
            found[lemma].append(name)
    return dict(found)


def _categories(nouns: Nouns, synsets: dict[str, int], taken: set[str]) -> dict[str, list[str]]:
    near = {above: None for synset in synsets.values() for above in sorted(nouns.ancestors(synset, STEPS))}
    above = {name: nouns.ancestors(synset) for name, synset in synsets.items()}
    found: dict[str, list[str]] = {}
    for synset in near:
        names = [name for name in synsets if synset in above[name]]
        if len(names) <= MOST_CLASSES and (lemmas := _fresh(nouns.lemmas[synset], taken)):
            found.setdefault(lemmas[0], names)
    return found


def _glosses(nouns: Nouns, synsets: dict[str, int]) -> dict[str, list[str]]:
    found = {}
    for name, synset in synsets.items():
        gloss = re.sub(r"\([^)]*\)", "", nouns.glosses[synset].split(";")[0])
        text = re.sub(r"\s+", " ", gloss).strip()
        words = {singular(word) for word in re.findall(r"[a-z]+", text.lower())}
        if not words & {singular(word) for word in re.findall(r"[a-z]+", name.lower())}:
            found[text] = [name]
    return found


def _fresh(lemmas: tuple[str, ...], taken: set[str]) -> list[str]:
    return [lemma for lemma in lemmas if WORDS.fullmatch(lemma) and singular(lemma) not in taken]
