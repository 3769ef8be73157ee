"""Image classifiers of the transformers library: built from a configuration, read from a folder or the hub.

No code that comes with a model is run: an architecture must be one of the library's own.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models import _torchvision  # noqa: F401  (before transformers, which imports torchvision)
from miclip.models.preprocessing import Preprocessing

LIBRARY = "transformers"
_UNLIKE = ("imagegpt", "perceiver", "pp_lcnet", "shieldgemma2", "siglip2", "timm_wrapper")
"""Types whose input is no square of RGB pixels, that give no logits, or that are another library's."""
_OF_A_CHECKPOINT = ("_name_or_path", "auto_map", "dtype", "id2label", "label2id", "num_labels", "torch_dtype",
                    "transformers_version", "use_pretrained_backbone")  # fmt: skip
_INTERPOLATIONS = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}
"""By Pillow's number; Lanczos, box and Hamming by the nearest that torch has."""
_PLAIN_BELOW = 384
"""Size from which on ConvNeXt is squashed instead of cropped."""


@dataclass(frozen=True)
class Checkpoint:
    """A classifier of a folder or of the hub.

    Attributes:
        architecture: ``transformers/TYPE``, as ``build`` takes it.
        config: Its configuration, without labels and without what names a checkpoint or code.
        labels: Names of its outputs; empty where the configuration has none.
        outputs: Their number.
    """

    architecture: str
    config: dict[str, Any]
    labels: tuple[str, ...]
    outputs: int


def is_checkpoint(path: Path) -> bool:
    """Whether a folder holds a model of the transformers library: its ``config.json`` names an architecture."""
    return "architectures" in _read_json(path / "config.json")


def read_checkpoint(name: str) -> Checkpoint:
    """Read the configuration of a folder or a name on the hub; raises InvalidInput."""
    with _quiet(name, "config.json"):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    _check_type(config.model_type, config)
    named = {int(place): str(label) for place, label in (config.id2label or {}).items()}
    labels = tuple(named[place] for place in sorted(named))
    unnamed = all(label == f"LABEL_{place}" for place, label in enumerate(labels))
    kept = json.loads(config.to_json_string(use_diff=False))
    kept = {key: value for key, value in kept.items() if key not in _OF_A_CHECKPOINT}
    return Checkpoint(f"{LIBRARY}/{config.model_type}", kept, () if unnamed else labels, config.num_labels)


def build(model_type: str, outputs: int, config: Mapping[str, Any]) -> nn.Module:
    """Build a classifier of ``outputs`` classes with random weights; needs no network.

    Args:
        model_type: As transformers names it, ``vit``.
        outputs: Number of its outputs.
        config: What differs from the type's defaults.

    Raises:
        InvalidInput: the type is unknown, no image classifier, or does not take the configuration.
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    _check_type(model_type)
    given = {key: value for key, value in config.items() if key not in (*_OF_A_CHECKPOINT, "model_type")}
    given["architectures"] = given.get("architectures") or [_first_class(model_type)]
    with _quiet(model_type, "config"):
        made = AutoConfig.for_model(model_type, **given, num_labels=outputs)
        return cast("nn.Module", AutoModelForImageClassification.from_config(made, trust_remote_code=False))


def read_state(name: str) -> dict[str, Tensor]:
    """Read the weights of a folder or a name on the hub, as today's transformers names them.

    Raises:
        InvalidInput: they are missing, hold code, or do not fit their configuration.
    """
    with _quiet(name, "weights"):
        from transformers import AutoModelForImageClassification

        module, said = AutoModelForImageClassification.from_pretrained(
            name, trust_remote_code=False, weights_only=True, dtype="float32", output_loading_info=True
        )
    missing = [str(key) for key in said["missing_keys"]]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        text = f"weights: the checkpoint lacks {', '.join(missing[:3])}{more}. Is it a fine-tuned image classifier?"
        raise InvalidInput(text, field="weights", allowed="a checkpoint of an image classifier")
    return cast("dict[str, Tensor]", module.state_dict())


def read_preprocessing(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """Read how a folder or a name on the hub says that images become inputs; raises InvalidInput."""
    with _quiet(name, "preprocessor_config.json"):
        from transformers import AutoImageProcessor

        fields = AutoImageProcessor.from_pretrained(name, trust_remote_code=False).to_dict()
    return as_preprocessing(fields, config)


def read_licence(name: str) -> str:
    """Return the licence in the head of a folder's README.md; empty where it names none."""
    try:
        head = (Path(name) / "README.md").read_text("utf-8")[:4000]
    except (OSError, ValueError):
        return ""
    found = re.search(r"^license:\s*(\S+)", head, re.MULTILINE)
    return found[1].strip("'\"") if found else ""


def as_preprocessing(fields: Mapping[str, Any], config: Mapping[str, Any]) -> Preprocessing:
    """Make a ``Preprocessing`` of an image processor's fields.

    Args:
        fields: Of ``preprocessor_config.json``, those that it leaves out filled in.
        config: The model's, for its ``image_size`` where images are not resized.

    Raises:
        InvalidInput: the input is not square, or images are made in a way that miclip does not know.
    """
    kind = str(fields.get("image_processor_type", "")).removesuffix("Fast").removesuffix("Pil")
    edge, squash = _resize(kind, fields, config)
    resize_size = edge
    if kind.startswith("ConvNext") and not squash:
        crops = edge < _PLAIN_BELOW
        resize_size, squash = (int(edge / (fields.get("crop_pct") or 224 / 256)), False) if crops else (edge, True)
    elif kind.startswith("Levit") and not squash:
        resize_size = int(256 / 224 * edge)
    elif kind.startswith("PoolFormer") and fields.get("crop_pct"):
        resize_size = int(edge / fields["crop_pct"])
    if fields.get("do_center_crop") and fields.get("crop_size"):
        edge = _edge(fields["crop_size"], "crop_size")
    mean, std = _normalisation(fields)
    return Preprocessing(
        size=edge,
        resize="squash" if squash else "shortest",
        resize_size=resize_size,
        interpolation=_INTERPOLATIONS.get(int(fields.get("resample") or 0), "bicubic"),
        mean=mean,
        std=std,
        bgr=bool(fields.get("do_flip_channel_order")),
    )


def _resize(kind: str, fields: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the edge that images are resized to, and whether both edges are."""
    size = fields.get("size")
    if not fields.get("do_resize", True) or not size:
        size = (fields.get("do_center_crop") and fields.get("crop_size")) or config.get("image_size") or 224
        return _edge(size, "image_size"), False
    shortest = isinstance(size, Mapping) and size.get("shortest_edge")
    return _edge(size, "size"), not shortest


def _edge(size: Any, field: str) -> int:
    values: list[Any] = list(size) if isinstance(size, list | tuple) else [size]
    if isinstance(size, Mapping):
        values = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key)]
    if not values or not all(isinstance(value, int) and value > 0 for value in values):
        text = f"model: the preprocessing's {field} {dict(size) if isinstance(size, Mapping) else size} is not known."
        raise InvalidInput(text, field="model", allowed="height and width, or shortest_edge")
    if len(set(values)) > 1:
        shown = "×".join(map(str, values))
        raise InvalidInput(f"model: its input is {shown}; only square inputs are supported.", field="model")
    return int(values[0])


def _normalisation(fields: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation on the scale 0 to 1 that do what rescaling and normalising do."""
    factor = 255 * float(fields.get("rescale_factor") or 1 / 255) if fields.get("do_rescale", True) else 255.0
    offset = 1.0 if fields.get("rescale_offset") else 0.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if fields.get("do_normalize"):
        mean, std = _three(fields.get("image_mean"), 0.0), _three(fields.get("image_std"), 1.0)
        if fields.get("include_top") and str(fields.get("image_processor_type", "")).startswith("EfficientNet"):
            return tuple((m + offset) / factor for m in mean), tuple(s * s / factor for s in std)
    return tuple((m + offset) / factor for m in mean), tuple(s / factor for s in std)


def _three(values: Any, default: float) -> tuple[float, float, float]:
    given = [values] * 3 if isinstance(values, int | float) else list(values or [default] * 3)
    if len(given) != 3:
        text = f"model: it takes images of {len(given)} channel(s); miclip gives RGB."
        raise InvalidInput(text, field="model", allowed="models of 3 channels")
    return float(given[0]), float(given[1]), float(given[2])


def _check_type(model_type: str, config: Any = None) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    known = [name for name in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES if name not in _UNLIKE]
    if model_type not in known:
        allowed = ", ".join(sorted(known))
        hint = " Name a model of timm as timm/NAME." if model_type == "timm_wrapper" else ""
        text = f"model: {model_type[:80]!r} is no image classifier of transformers that miclip can run.{hint}"
        raise InvalidInput(text, field="model", allowed=allowed)
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        text = f"model: it takes images of {channels} channel(s); miclip gives RGB."
        raise InvalidInput(text, field="model", allowed="models of 3 channels")
    size = getattr(config, "image_size", None)
    if isinstance(size, list | tuple | Mapping):
        _edge(size, "image_size")


def _first_class(model_type: str) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    names: Any = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[model_type]
    return str(names if isinstance(names, str) else names[0])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def _quiet(name: str, what: str) -> Iterator[None]:
    """Keep transformers from printing, and turn its errors into ours."""
    from transformers.utils import logging as messages

    level = messages.get_verbosity()
    messages.set_verbosity(logging.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:  # of many libraries below
        where = "folder" if Path(name).is_dir() else "model"
        said = " ".join(str(error).split())[:300]
        text = f"model: the {what} of the {where} {Path(name).name[:80]!r} cannot be used: {said}"
        raise InvalidInput(text, field="model", allowed="a folder with config.json, model.safetensors and "
                           "preprocessor_config.json, or a name on the hub")  from error  # fmt: skip
    finally:
        messages.set_verbosity(level)
        messages.enable_progress_bar()
