"""Where the figures and the pictures come from: hashes and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.figures import scrolled
from miclip.evaluation.report.markup import Html, el


def result_sha256(result: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a result as JSON with sorted keys, however its file is indented."""
    return hashlib.sha256(json.dumps(result, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def provenance(result: Mapping[str, Any], exhibits: Sequence[Exhibit]) -> Html:
    """Return the table of hashes and settings; it holds no date, so that equal inputs make an equal report."""
    head = el("tr", el("td"), [el("th", exhibit.model.name, scope="col") for exhibit in exhibits])
    facts = [_facts(exhibit) for exhibit in exhibits]
    names = list(dict.fromkeys(name for one in facts for name in one))
    body = [
        el("tr", el("th", name, scope="row"), [el("td", el("code", one.get(name, "–"))) for one in facts])
        for name in names
    ]
    whole = el("p", "Result ", el("code", result_sha256(result)), f" · miclip {_version()}", class_="hash")
    if not exhibits:
        return whole
    return el("div", whole, scrolled(el("table", el("thead", head), el("tbody", body), class_="pairs hash")))


def _facts(exhibit: Exhibit) -> dict[str, str]:
    atlas = exhibit.searcher.atlas
    manifest = atlas.manifest
    return {
        "atlas of the pictures": atlas.atlas_id,
        "weights of the model": manifest.weights_sha256,
        "CLIP": manifest.clip_id,
        "probe set": f"{manifest.probe.set}, {manifest.probe.images} images, {manifest.probe.views} views",
        "probe images": manifest.probe.sha256,
        "held-out images": exhibit.held_out.sha256,
        "licence": manifest.licence,
        **{f"alignment: {name.replace('_', ' ')}": str(value) for name, value in sorted(manifest.settings.items())},
    }


def _version() -> str:
    try:
        return version("miclip")
    except PackageNotFoundError:
        return "from source"
