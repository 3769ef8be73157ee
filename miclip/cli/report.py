"""``miclip report``: a saved evaluation as one HTML file with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.picture import label_groups
from miclip.cli.progress import progress_bar
from miclip.errors import InvalidInput

if TYPE_CHECKING:
    from miclip.evaluation.report import Exhibit
    from miclip.evaluation.result import Result
    from miclip.models.clip import Clip

Saved = Annotated[Path, typer.Argument(help="File with what `miclip evaluate --json` printed.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")]


def report(result: Saved, out: Out, as_json: output.Json = False) -> None:
    """Write the report of a saved evaluation: figures, verdicts in words, and pictures to judge labels by.

    The file holds everything that it shows and opens without a network. Pictures are of the atlases that the models
    use now.

    Examples:
        miclip evaluate --json > result.json

        miclip report result.json --out report.html
    """
    check_page(out, "--out")
    from miclip.evaluation.result import read_result

    value = write_report(read_result(result), out, "--out")
    output.emit(value, as_json, lambda: output.out.print(f"Wrote {output.text(out)}."))


def check_page(path: Path, option: str) -> None:
    """Check, before any work is done, that a page can be written; raises InvalidInput naming the option."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InvalidInput(
            f"{option}: {path.name!r} is not an .html file.", field=option, allowed="a name ending in .html"
        )
    if not path.parent.is_dir():
        raise InvalidInput(f"{option}: there is no folder {str(path.parent)!r}.", field=option)


def check_report(path: Path, models: Sequence[str]) -> None:
    """Check, before the work, that a report of some models can be written; raises InvalidInput or BadArtefact."""
    check_page(path, "--report")
    exhibits(models)


def write_report(result: Result, out: Path, option: str) -> dict[str, Any]:
    """Render a result and write it; raises InvalidInput naming the option when the file cannot be written."""
    from miclip.evaluation.report import render

    with progress_bar() as bar:
        shown = exhibits(result.targets)
        text = render(result, shown, bar)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{option}: cannot write {out}: {error.strerror}.", field=option) from error
    atlases = {exhibit.model.name: f"atlases/{exhibit.searcher.atlas.atlas_id}" for exhibit in shown}
    return {"file": str(out), "bytes": out.stat().st_size, "atlases": atlases}


def exhibits(models: Iterable[str]) -> list[Exhibit]:
    """Return what the pictures of some models are made from; a model that comes with no bundle has none."""
    from miclip.bundles import bundle_of_model

    return [_exhibit(name) for name in models if bundle_of_model(name)]


@lru_cache(maxsize=1)
def _clip(clip_id: str) -> Clip:
    from miclip.clips import load_clip_of

    return load_clip_of(clip_id)


def _exhibit(name: str) -> Exhibit:
    from miclip.atlas import find_atlas
    from miclip.catalogue import load_target
    from miclip.cli.picture import probe_of
    from miclip.demo.probe import held_out
    from miclip.demo.queries import demo_queries
    from miclip.evaluation.report import Exhibit
    from miclip.pictures.probe import ProbeImages
    from miclip.retrieval.search import AtlasSearcher

    model, images = load_target(name), held_out()
    atlas = find_atlas(name, model_weights_sha256=model.weights_sha256)
    searcher = AtlasSearcher(atlas)
    try:
        probe = ProbeImages(atlas, probe_of(atlas))
    except InvalidInput as error:
        text = (
            f"The atlas that {name} uses was aligned on {atlas.manifest.probe.set!r}, whose images are not at hand. "
            "Activate an atlas of the demo's images."
        )
        raise InvalidInput(text, field="--model") from error
    return Exhibit(
        model=model, searcher=searcher, probe=probe, clip=_clip(atlas.manifest.clip_id),
        groups=label_groups(searcher), held_out=images, labels=images.labels, queries=demo_queries(),
    )  # fmt: skip
