"""Which columns of a table hold images and labels, as Hugging Face writes them and as others do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from miclip.errors import InvalidInput

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
_LABEL_NAMES = ("label", "labels", "class", "class_name", "cls", "target")


@dataclass(frozen=True)
class Columns:
    """Columns of a table of images.

    Attributes:
        image: Column of encoded images: bytes, or a record with a field ``bytes``.
        record: Whether it is a record.
        label: Column of labels; empty without one.
        label_names: Name of every class, where labels are numbers with names.
    """

    image: str
    record: bool
    label: str = ""
    label_names: tuple[str, ...] = ()

    def text_of(self, value: Any) -> str | None:
        """Return a value of the label column as a name or a number in digits; None for no label."""
        if value is None or (isinstance(value, int) and value < 0):
            return None
        if isinstance(value, int) and value < len(self.label_names):
            return self.label_names[value]
        return str(value)


def find_columns(schema: Any, table: str) -> Columns:
    """Find the columns of a ``pyarrow.Schema``; raises InvalidInput where none or several can be the images'.

    Args:
        schema: Of the table, with Hugging Face's notes in its metadata where they wrote it.
        table: Name of the table, for messages.
    """
    features = _features(schema)
    noted = [name for name in schema.names if _kind(features, name) == "Image"]
    image = _one(noted or [name for name in schema.names if _holds_bytes(schema.field(name).type)], _IMAGE_NAMES)
    if not image:
        text = f"images: no column of {table!r} is known to hold images; its columns are {', '.join(schema.names)}."
        allowed = "one column of bytes or of {bytes, path}, called image where there are several"
        raise InvalidInput(f"{text} Allowed is {allowed}.", field="images", allowed=allowed)
    classes = [name for name in schema.names if _kind(features, name) == "ClassLabel"]
    others = [name for name in schema.names if name in _LABEL_NAMES and _is_label(schema.field(name).type)]
    label = _one(classes, _LABEL_NAMES) or _one(others, _LABEL_NAMES)
    names = features[label].get("names", ()) if label in classes else ()
    return Columns(image, _is_record(schema.field(image).type), label, tuple(map(str, names)))


def _features(schema: Any) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(features: dict[str, Any], name: str) -> str:
    feature = features.get(name)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _one(names: Sequence[str], preferred: Sequence[str]) -> str:
    """The only name, or the first of the preferred ones that is there; empty without any."""
    if len(names) == 1:
        return names[0]
    return next((name for name in preferred if name in names), "")


def _holds_bytes(kind: Any) -> bool:
    return _is_binary(kind) or _is_record(kind)


def _is_record(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))
