"""Names of the demo's models, as requests and the command line give them."""

from __future__ import annotations

from typing import Final

RESNET: Final = "emoji-resnet"
VIT: Final = "emoji-vit"
RESNET_NAME: Final = f"models/{RESNET}"
VIT_NAME: Final = f"models/{VIT}"
