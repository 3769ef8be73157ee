"""The simplest label of all: the class whose predictions the unit drives most on the probe images. No CLIP, no text."""

from __future__ import annotations

from miclip.evaluation.methods._method import Method
from miclip.evaluation.methods._ranks import label_by_class
from miclip.evaluation.methods.white_boxes import oracle

METHODS = (
    Method(
        "closed_vocabulary",
        "argmax of class-mean attribution",
        "the attributions of every class's images; it can give no label but a class's",
        order=125,
        label=label_by_class(oracle),
    ),
)
