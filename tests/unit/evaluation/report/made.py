"""Results of an evaluation with figures that are made up, and a reader of the page made from one."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from miclip.evaluation.figures import ByScale, Figure, NullFigure
from miclip.evaluation.measures import Effect, Evidence, Localization, MethodCard, Verdict
from miclip.evaluation.result import Result, Target, Units, UnseenUnits

CARDS = (
    MethodCard(name="random", title="random units", knows="nothing", role="control"),
    MethodCard(name="z_mean_activation", title="z-scored activation", knows="predictions", role="baseline"),
    MethodCard(name="clip_dissect", title="CLIP-Dissect", knows="the text", role="baseline"),
    MethodCard(name="default", title="miclip's label", knows="the text", role="default"),
    MethodCard(name="filter", title="filter (the paper)", knows="the text", role="ours"),
    MethodCard(name="attribution", title="attribution store", knows="the text", role="default"),
    MethodCard(name="oracle", title="oracle", knows="the attributions", role="whitebox"),
)
METHODS = ("random", "z_mean_activation", "clip_dissect", "filter", "attribution", "oracle")
VOID = {"meta", "img", "br", "hr"}


def figure(value: float, half: float = 1.0) -> Figure:
    return Figure(value=value, low=value - half, high=value + half)


def null_figure(value: float, null: float) -> NullFigure:
    return NullFigure(value=value, low=value - 0.02, high=value + 0.03, null=null)


def effect(target: float) -> Effect:
    weighted = figure(0.8 * target)
    return Effect(target=figure(target), others=figure(-0.2, 0.1), specificity=figure(0.8, 0.1), weighted=weighted)


def verdict(lead: float, half: float = 1.0, share: float | None = None, best: str = "clip_dissect") -> Verdict:
    of_oracle = None if share is None else figure(share)
    return Verdict(share_of_oracle=of_oracle, best_baseline=best, lead=figure(lead, half))


def localization(gains: dict[str, float], said: Verdict, evidence: Evidence | None = None) -> Localization:
    """Doubling gains the points given (1 by default), removing loses twice as many; the verdict is of both."""
    methods = {
        name: ByScale[Effect](scale_2=effect(gains.get(name, 1)), scale_0=effect(-2 * gains.get(name, 1)))
        for name in METHODS
    }
    verdicts = ByScale[Verdict](scale_2=said, scale_0=said)
    return Localization(methods=methods, verdict=verdicts, evidence=evidence)


def units(layer: str = "mid", kind: str = "neurons", **parts: Any) -> Units:
    empty = {"dictionary": "", "labels": {"default": 100.0}, "agreement": {}, "localizations": {}, "descriptions": {}}
    return Units(layer=layer, units=kind, **{**empty, **parts})  # type: ignore[arg-type]


def unseen_units(trusted_share: float, found: Localization) -> UnseenUnits:
    return UnseenUnits(layer="mid", units="neurons", dictionary="", trusted_share=trusted_share, localization=found)


def evaluation(target: Target, **changed: Any) -> Result:
    return Result(methods=CARDS, targets={"toy": target.model_copy(update=changed)})


class Page(HTMLParser):
    """Elements, and text by element; refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))
