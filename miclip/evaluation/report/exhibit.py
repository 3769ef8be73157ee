"""What the pictures of one target model are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.evaluation.queries import Query
from miclip.models.clip import Clip
from miclip.models.target import TargetModel
from miclip.pictures.probe import ProbeImages
from miclip.retrieval.search import AtlasSearcher


@dataclass(frozen=True)
class Exhibit:
    """One target model, its atlas and the images to show.

    Attributes:
        model: The target model.
        searcher: Of its atlas.
        probe: The images that the atlas was made from.
        clip: Embeds queries.
        groups: Group of every label of the model.
        held_out: Images that nothing was trained on, ordered by view, then class.
        labels: Their classes, int64 ``[N]``.
        queries: Queries by kind, beside the class names, to show interventions with.
    """

    model: TargetModel
    searcher: AtlasSearcher
    probe: ProbeImages
    clip: Clip
    groups: Mapping[str, str]
    held_out: ProbeSet
    labels: Tensor
    queries: Mapping[str, Sequence[Query]] = field(default_factory=dict)
