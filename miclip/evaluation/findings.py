"""What an evaluation found, in sentences: where a simple baseline wins comes first.

They are made from the result, so that no document says what the figures do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from miclip.evaluation.figures import Figure
from miclip.evaluation.measures import LabelFigures
from miclip.evaluation.result import NAMES, Result, Target, Units
from miclip.models.target import LOGITS

KINDS = {
    NAMES: "class names",
    "synonyms": "tag synonyms",
    "keywords": "tag keywords",
    "categories": "tag categories",
    "fresh_synonyms": "fresh synonyms",
    "fresh_categories": "fresh categories",
    "fresh_glosses": "fresh glosses",
}
"""What readers call kinds of query, in the order of tables."""
FRESH = "fresh_"
"""Kinds of query that begin with it are of texts that nothing was trained on."""
PARTS = {"output_only": "output only", "random_encoder": "an untrained encoder"}
"""What the default is without its encoder: the lead over them is what the encoder adds."""
ENOUGH = 5.0
"""Points that the default must be ahead of both for the encoder to pay."""
LEVEL = 0.05
"""Points within which two methods are level: they print as the same number."""
OWN_LABEL = "default"
_WINS = "a simple baseline wins"
JUDGES = {"drives": "what units drive", "active": "what units are active for"}


def findings(result: Result, name: str) -> tuple[str, ...]:
    """Return what was found of one target, a sentence each; those in which a simple baseline wins come first."""
    target = result.targets[name]
    compared = [
        sentence
        for found in (
            *(_labels(result, target, judge) for judge in JUDGES),
            *(_carried(result, target, kind) for kind in KINDS),
        )
        for sentence in found
    ]
    return (*sorted(compared, key=lambda sentence: _WINS not in sentence), *_encoder(target), *_dictionaries(target))


def simple_methods(result: Result, *, told: bool) -> set[str]:
    """Return the baselines that know nothing but a text; with ``told``, also those that are told the classes."""
    return {card.name for card in result.methods if card.role == "baseline" and (told or card.by_text_alone)}


def learned(target: Target) -> tuple[Units, ...]:
    """Return the places below the logits, without random dictionaries."""
    return tuple(place for place in target.places if place.layer != LOGITS and place.units != "random features")


def _labels(result: Result, target: Target, judge: str) -> Iterator[str]:
    simple, lost, places = simple_methods(result, told=True), [], 0
    for place in learned(target):
        shares = {name: _of(figures, judge) for name, figures in place.labels.items()}
        others = {name: share for name, share in shares.items() if name in simple}
        if OWN_LABEL not in shares or not others:
            continue
        places += 1
        best = max(others, key=lambda name: others[name])
        if others[best] > shares[OWN_LABEL] + LEVEL:
            beaten = f"{others[best]:.1f} against {shares[OWN_LABEL]:.1f} %"
            lost.append(f"{place.title}: {result.method(best).title}, {beaten}")
    if places:
        yield _sentence(f"Labels of all units, judged by {JUDGES[judge]}", lost, places)


def _of(figures: LabelFigures, judge: str) -> float:
    figure: Figure = getattr(figures, judge)
    return figure.value


def _carried(result: Result, target: Target, kind: str) -> Iterator[str]:
    """Class names are compared with all baselines, texts with those that know the text alone."""
    simple, lost, places = simple_methods(result, told=kind == NAMES), [], 0
    for place in learned(target):
        found = place.carried.get(kind)
        leads = {name: lead.value for name, lead in found.leads.items() if name in simple} if found else {}
        if not leads:
            continue
        places += 1
        nearest = min(leads, key=lambda name: leads[name])
        if leads[nearest] < -LEVEL:
            lost.append(f"{place.title}: {result.method(nearest).title}, {-leads[nearest]:.1f} points ahead")
    if places:
        yield _sentence(f"Attribution carried by the units of {KINDS[kind]}", lost, places)


def _sentence(what: str, lost: list[str], places: int) -> str:
    if lost:
        return f"{what}: {_WINS} in {len(lost)} of {places} places ({'; '.join(lost)})."
    return f"{what}: no simple baseline wins in any of {places} places."


def _encoder(target: Target) -> Iterator[str]:
    """Whether the default is far enough ahead of what is left of it without a trained encoder."""
    places = learned(target)
    fresh = [(place, kind) for place in places for kind in place.carried if kind.startswith(FRESH)]
    if not fresh:
        return
    ahead = dict.fromkeys(PARTS, 0)
    for place, kind in fresh:
        for part in PARTS:
            lead = place.carried[kind].leads.get(part)
            ahead[part] += lead is not None and lead.value >= ENOUGH
    counts = " and ".join(f"{words} in {ahead[part]}" for part, words in PARTS.items())
    pays = all(count == len(fresh) for count in ahead.values())
    verdict = "The encoder pays on fresh queries" if pays else "On fresh queries the encoder does not pay everywhere"
    if not any(ahead.values()):
        verdict = "On fresh queries the encoder does not pay"
    yield (
        f"{verdict}: of {len(fresh)} comparisons (kind of query × layer × units) the default carries at least "
        f"{ENOUGH:.0f} points more of the attribution than {counts}."
    )


def _dictionaries(target: Target) -> Iterator[str]:
    """How many labels of learned features are right, and how many of random ones."""
    shares = {
        (place.layer, place.units): place.labels[OWN_LABEL].drives.value
        for place in target.places
        if OWN_LABEL in place.labels
    }
    layers = [layer for layer, units in shares if units == "random features" and (layer, "features") in shares]
    if layers:
        compared = (
            f"{layer} {shares[layer, 'features']:.1f} against {shares[layer, 'random features']:.1f} %"
            for layer in layers
        )
        what = "Labels of features, judged by what they drive, learned against random directions"
        yield f"{what}: {', '.join(compared)}."
