"""Interventions: scale a concept's units, and see whose accuracy moves.

Protocol of the paper (Shi et al., ICLR 2026, intervention tables): the top-5 units of a class, ×2 (enhance) and ×0
(remove), change of that class's accuracy. Beside it stands what its reviewers missed: the mean change of the other
classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.evaluation.resume import layer_output, resume_from
from miclip.files import write_file
from miclip.models.features import added, encode_features
from miclip.models.target import TargetModel
from miclip.row_store import key_of
from miclip.steering.apply import Codes
from miclip.steering.edits import Edit, Op, compile_edits

BATCH = 256
Tick = Callable[[], None]


@dataclass(frozen=True)
class Change:
    """Change of accuracy under an intervention, in percentage points.

    Attributes:
        target: Of the classes whose units were changed, their mean.
        others: Mean over the other classes.
        others_absolute: Mean over the other classes of the change's magnitude.
        noise: What that magnitude would be if as many images had changed, each for the better or the worse by chance: a
            class's accuracy on a few images moves even where nothing is wrong with the class.
    """

    target: float
    others: float
    others_absolute: float
    noise: float = 0.0


class Laboratory:
    """One layer of a target model over a fixed set of labelled images, ready for many interventions.

    Args:
        model: The target model.
        layer: The layer whose units are scaled, at every position.
        images: Preprocessed images, float32 ``[N, 3, S, S]``.
        labels: Class of each image, int64 ``[N]``.
        other_views: Images of a class that measure the side effects, at most as many as the rarest class has; all its
            images measure a target class.
        other_classes: Classes that measure the side effects, evenly spread over those that have images; default all.
    """

    def __init__(
        self,
        model: TargetModel,
        layer: str,
        images: Tensor,
        labels: Tensor,
        other_views: int,
        other_classes: int | None = None,
    ) -> None:
        self._model, self._layer, self._labels = model, model.layers[layer], labels
        self._images, self._classes = images, int(labels.max()) + 1
        shown = torch.unique(labels)
        count = min(other_classes or len(shown), len(shown))
        watched = shown[torch.arange(count) * len(shown) // count]
        self._views = min(other_views, int(torch.bincount(labels)[shown].min()))
        self._others = _first(labels, watched, self._views)
        self._rest = resume_from(model.module, self._layer.module)
        self._output = layer_output(model.module, self._layer.module, images) if self._rest else None
        self._codes = self._encoded()
        self._hits = self._correct(torch.arange(len(labels)), (), 1.0)
        self._seen: dict[tuple[frozenset[int], frozenset[int], float], Change] = {}

    def change(self, targets: Collection[int], units: Sequence[int], scale: float) -> Change:
        """Scale ``units`` by ``scale`` and return what it does to the classes ``targets`` and to the others."""
        key = (frozenset(targets), frozenset(units), scale)
        if key not in self._seen:
            self._seen[key] = self._measure(targets, units, scale)
        return self._seen[key]

    def _measure(self, targets: Collection[int], units: Sequence[int], scale: float) -> Change:
        targeted = torch.isin(self._labels, torch.as_tensor(sorted(targets)))
        own = torch.nonzero(targeted).flatten()
        others = self._others[~targeted[self._others]]
        hits = self._correct(torch.cat([own, others]), units, scale)
        before = self._hits[torch.cat([own, others])]
        change = 100.0 * (hits.float() - before.float())
        beside, labels = change[len(own) :], self._labels[others]
        by_class, flips = (torch.zeros(self._classes).index_add_(0, labels, what) for what in (beside, beside.abs()))
        chance = sum(100.0 * expected_distance(round(count)) for count in (flips / 100.0).tolist())
        return Change(
            change[: len(own)].mean().item(), beside.mean().item(),
            by_class.abs().sum().item() / len(others), chance / len(others),
        )  # fmt: skip

    @torch.inference_mode()
    def _correct(self, rows: Tensor, units: Sequence[int], scale: float) -> Tensor:
        run = self._resumed if self._rest else self._whole
        logits = torch.cat([run(part, units, scale) for part in rows.split(BATCH)])
        return logits.argmax(dim=1) == self._labels[rows]

    def _resumed(self, rows: Tensor, units: Sequence[int], scale: float) -> Tensor:
        assert self._output is not None and self._rest is not None
        hidden, chosen = self._output[rows], torch.as_tensor(units, dtype=torch.int64)
        axis = self._model.unit_axis(hidden)
        if units and self._codes is not None:
            sae = self._model.dictionaries[self._layer.name]
            change = (scale - 1) * self._codes.values[rows].index_select(-1, chosen) @ sae.W_dec[chosen]
            hidden = added(hidden, (change * self._codes.scale[rows]).movedim(-1, axis), sae)
        elif units:
            hidden.index_copy_(axis, chosen, hidden.index_select(axis, chosen) * scale)
        return self._rest(hidden)

    @torch.inference_mode()
    def _encoded(self) -> Codes | None:
        """Codes of all images where the layer is one of features: an intervention then only adds a few directions."""
        sae = self._model.dictionaries.get(self._layer.name)
        if sae is None or self._output is None:
            return None
        axis = self._model.unit_axis(self._output)
        parts = [encode_features(part, sae, axis) for part in self._output.split(BATCH)]
        return Codes(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _whole(self, rows: Tensor, units: Sequence[int], scale: float) -> Tensor:
        edits = [Edit(self._layer.name, unit, Op.SCALE, scale) for unit in units]
        batch = compile_edits([edits] * len(rows), self._model.layer_sizes)
        return self._model.forward(self._images[rows], edits=batch).logits


def expected_distance(steps: int) -> float:
    """Return the mean distance from the start after so many steps of length 1, each to the left or right by chance."""
    return steps * math.comb(steps - 1, (steps - 1) // 2) / 2 ** (steps - 1) if steps else 0.0


def _first(labels: Tensor, classes: Tensor, count: int) -> Tensor:
    """Return the rows of the first ``count`` images of each of some classes, in the order of the images."""
    order, sizes = torch.argsort(labels, stable=True), torch.bincount(labels)
    earlier = torch.empty_like(labels)  # images of the same class before this one
    earlier[order] = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[order]]
    return torch.nonzero(torch.isin(labels, classes) & (earlier < count)).flatten()


def intervene(
    laboratory: Laboratory,
    ranking: NDArray[np.int64],
    targets: Sequence[Collection[int]],
    top: int = 5,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[Change]]:
    """Scale each query's strongest ``top`` units ×2 and ×0.

    Args:
        laboratory: Layer and images.
        ranking: Units by query, best first, int64 ``[Q, ≥ top]``.
        targets: Classes that each query covers.
        top: Units per query.
        tick: Called after every query.

    Returns:
        ``{"scale_2": changes, "scale_0": changes}``, each in the order of ``targets``.
    """
    changes: dict[str, list[Change]] = {"scale_2": [], "scale_0": []}
    for covered, ranked in zip(targets, ranking, strict=True):
        units = [int(unit) for unit in ranked[:top]]
        changes["scale_2"].append(laboratory.change(covered, units, 2.0))
        changes["scale_0"].append(laboratory.change(covered, units, 0.0))
        tick()
    return changes


def recorded(
    folder: Path, inputs: Any, count: int, tick: Tick, measure: Callable[[Tick], dict[str, list[Change]]]
) -> dict[str, list[Change]]:
    """Return what ``measure`` gives, from an earlier run where that had finished it: an interrupted evaluation goes on.

    Args:
        folder: Where the records lie.
        inputs: Everything that determines the result, as JSON.
        count: Queries, each of which ticks.
        tick: Called after every query.
        measure: Called with ``tick`` where there is no record.
    """
    path = folder / f"{key_of(inputs)}.json"
    if path.exists():
        for _ in range(count):
            tick()
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {scale: [Change(**change) for change in changes] for scale, changes in saved.items()}
    changes = measure(tick)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({scale: [asdict(c) for c in values] for scale, values in changes.items()}))
    return changes
