"""The templates of the page; what is not markup in them is escaped, so that no label, name or path can be markup."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miclip.evaluation.report import words


def _environment() -> Environment:
    loader = PackageLoader("miclip.evaluation.report", "templates")
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    for name in ("signed", "plain_number", "fitting_number", "count", "percent", "kind_words", "drawn", "few"):
        made.filters[name] = getattr(words, name)
    made.globals["SCALES"] = words.SCALES
    return made


ENVIRONMENT = _environment()


def fill(template: str, **values: Any) -> Markup:
    """Return a template with its values."""
    return Markup(ENVIRONMENT.get_template(template).render(**values))


def macro(template: str, name: str, *values: Any) -> Markup:
    """Return what one macro of a template makes of some values."""
    made: Markup = getattr(ENVIRONMENT.get_template(template).module, name)(*values)
    return made
