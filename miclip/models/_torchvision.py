"""Make ``import torchvision`` work when it was built for CUDA and torch was not.

Such a torchvision fails at import with ``operator torchvision::nms does not exist``, and takes timm and open_clip down
with it. Declaring the two operators is enough: nothing here calls them. Import this module before timm, open_clip or
torchvision.
"""

from __future__ import annotations

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []


def _ensure_importable() -> None:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _SCHEMA)
        _declared.append(library)  # the declarations live as long as the library object
        import torchvision  # noqa: F401


_ensure_importable()
