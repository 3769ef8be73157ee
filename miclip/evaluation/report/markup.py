"""Building HTML and SVG: what is not markup already is escaped, so that no label, name or path can be markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

Child = "Html | str | int | float | None | Iterable[Child]"
Attribute = str | int | float | bool | None
_VOID = {"img", "meta", "br", "hr"}


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def el(name: str, /, *children: object, **attributes: Attribute) -> Html:
    """Return an element.

    Args:
        name: Its name.
        children: Html is taken as it is, text is escaped, None is left out, and what can be iterated over is unfolded.
        attributes: A trailing underscore is dropped (``class_``), others become hyphens; None and False are left out,
            True has no value; numbers are shortened to two digits behind the point.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Return children one behind the other; see ``el``."""
    return Html("".join(_text(child) for child in children))


def _text(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return str(child)
    if isinstance(child, str):
        return html.escape(child)
    if isinstance(child, Iterable):
        return "".join(_text(one) for one in child)
    return html.escape(str(child))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
