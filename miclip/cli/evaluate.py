"""``miclip evaluate``: how well a model's units are described, and how well concepts are localized in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.cli.options import Layers
from miclip.cli.progress import progress_bar
from miclip.cli.report import check_report, write_report
from miclip.errors import InvalidInput
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.alignment import ProbeSet
    from miclip.evaluation.labelled import LabelledImages
    from miclip.evaluation.subject import Subject
    from miclip.models.target import TargetModel

Models = Annotated[list[str] | None, typer.Option("--model", "-m", help="Model to judge; repeat. Default: the demo's.")]
ImageDir = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Labelled images that judge: one subfolder per label, or labelled shards or tables. Default: the atlas's.",
    ),
]
ProbeDir = Annotated[
    Path | None,
    typer.Option("--probe-images", help="Images to make labels from; default: one half of --images, the other judges."),
]
Most = Annotated[int, typer.Option("--limit", min=1, help="With --images: judge on at most this many images a class.")]
Seeds = Annotated[int, typer.Option(min=1, max=20, help="Seeds; each aligns anew, and takes as long again.")]
Page = Annotated[Path | None, typer.Option("--report", help="Write an HTML report with pictures, too.")]
Directory = Annotated[Path | None, typer.Option("--directory", help="Keeps what an interrupted run has done.")]

DEMO = {"emoji-resnet": ("layer3", "layer4"), "emoji-vit": ("blocks.2", "norm")}
"""Middle and penultimate layer of the demo's models."""
VIEWS = 16
"""Images of a class that judge, at most; the demo has as many."""


@dataclass(frozen=True)
class Trial:
    """What is evaluated.

    Attributes:
        subjects: Models and the images that judge.
        probe: Images that labels are made from, by seed.
        aligns: Whether every seed aligns anew; else the stored atlas is judged as it is.
    """

    subjects: list[Subject]
    probe: Callable[[int], ProbeSet]
    aligns: bool = True


def evaluate(
    models: Models = None,
    images: ImageDir = None,
    probe_images: ProbeDir = None,
    layers: Layers = None,
    limit: Most = VIEWS,
    seeds: Seeds = 1,
    directory: Directory = None,
    page: Page = None,
    as_json: output.Json = False,
) -> None:
    """Measure descriptions and interventions on images that labels are not made from.

    The demo's models are judged on a drawing style that nothing was trained on; any other model on --images, else on
    the images that its alignment set aside. Every seed aligns anew. Labels are judged by what units drive and by what
    they are active for. For each query (a class's name; for the demo also tags and WordNet's synonyms, categories and
    definitions) the attribution that a method's five units carry is measured; for some queries they are doubled and
    removed, too. The demo takes some minutes; Ctrl-C keeps what is done.

    Examples:
        miclip evaluate --report report.html

        miclip evaluate --model photos-resnet

        miclip evaluate --model photos-resnet --images labelled/ --probe-images photos/
    """
    from miclip.cli import evaluation_tables
    from miclip.clips import clip_of_model
    from miclip.evaluation.run import evaluate as run
    from miclip.evaluation.subject import EvaluationSettings

    names = models or list(DEMO)
    if page is not None:
        check_report(page, names)
    store = directory or settings().data_dir / "evaluation"
    if images is not None:
        trial = own_trial(names, images, probe_images, layers, limit)
    elif len(names) == 1 and names[0] not in DEMO:
        trial = stored_trial(names[0], probe_images, layers)
    else:
        trial = demo_trial(names, probe_images, layers)
    chosen = EvaluationSettings(seeds=tuple(range(seeds if trial.aligns else 1)))
    try:
        with progress_bar() as report:
            result = run(trial.subjects, clip_of_model(names[0]), trial.probe, store, chosen, report, _vocabularies())
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    output.emit(result.model_dump(mode="json"), as_json, lambda: evaluation_tables.show(result))
    if page is not None:
        write_report(result, page, "--report")
        output.note(f"Wrote {page}.")


def _vocabularies() -> dict[str, tuple[str, ...]]:
    from miclip.demo.queries import common_nouns
    from miclip.retrieval.vocabulary import builtin_concepts

    return {**{name: builtin_concepts(name) for name in ("emoji", "imagenet")}, "nouns": common_nouns()}


def demo_trial(names: list[str], probe_images: Path | None, layers: list[str] | None) -> Trial:
    """Return the trial of demo models, judged on the style that nothing was trained on; raises InvalidInput."""
    from miclip.catalogue import check_known, load_target
    from miclip.demo.probe import demo_probe, held_out
    from miclip.demo.queries import demo_queries
    from miclip.evaluation.subject import Subject

    for name in names:
        check_known(name)
        if name not in DEMO:
            text = f"--images: name a folder of labelled images to judge {name} on, with one subfolder per label."
            raise InvalidInput(text, field="--images", allowed="a folder; only the demo's models need none")
    if probe_images is not None or layers:
        option = "--layer" if layers else "--probe-images"
        raise InvalidInput(f"{option}: the demo's models are judged as they are; give --images, too.", field=option)
    images = held_out()
    subjects = [Subject(load_target(name), DEMO[name], images, images.labels, demo_queries()) for name in names]
    return Trial(subjects, demo_probe)


def stored_trial(name: str, probe_images: Path | None, layers: list[str] | None) -> Trial:
    """Return the trial of a model on the images that its alignment set aside; raises NotAligned or InvalidInput."""
    from miclip.catalogue import check_known, load_target
    from miclip.cli.held_out_trial import held_out_trial

    check_known(name)
    model = load_target(name)
    subject, probe, aligns = held_out_trial(model, _layers(model, layers), probe_images)
    return Trial([subject], lambda _seed: probe, aligns)


def own_trial(names: list[str], folder: Path, probe_images: Path | None, layers: list[str] | None, limit: int) -> Trial:
    """Return the trial of one model on a labelled folder; labels are made from other images than those that judge.

    Args:
        names: The model, alone.
        folder: Labelled images: one subfolder per label.
        probe_images: Images to make labels from; None: one half of the folder.
        layers: Layers to judge; None: those of the model's atlas.
        limit: Images of a class that judge, at most.

    Raises:
        InvalidInput: the options or the folder do not fit the model.
        NotAligned: no layers are named, and the model has no atlas.
    """
    from miclip.catalogue import load_target
    from miclip.evaluation.labelled import at_most, read_labelled
    from miclip.evaluation.subject import Subject

    if len(names) != 1:
        text = "--model: labelled images judge one model; name it."
        raise InvalidInput(text, field="--model", allowed="one model with --images")
    model = load_target(names[0])
    where = _layers(model, layers)
    images, broken = read_labelled(folder, model.labels)
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        output.note(f"Skipped {len(broken)} files that are not images: {', '.join(broken[:3])}{more}.")
    probe, judges = _apart(model, images, probe_images)
    judges = at_most(judges, limit)
    output.note(f"Labels are made from {len(probe.names)} images of {probe.name}; {len(judges.names)} other images of "
                f"{judges.name} judge them.")  # fmt: skip
    return Trial([Subject(model, where, judges, judges.labels)], lambda _seed: probe)


def _apart(model: TargetModel, images: LabelledImages, probe_images: Path | None) -> tuple[ProbeSet, LabelledImages]:
    """The images that labels are made from, and those that judge: no file is among both."""
    from miclip.evaluation.labelled import apart_from, halves
    from miclip.probe_sets.images import open_images

    if probe_images is None:
        return halves(images, model.labels)
    probe = open_images(probe_images)
    judges = apart_from(images, set(probe.hashes), model.labels)
    if left_out := len(images.names) - len(judges.names):
        output.note(f"Left out {left_out} of the labelled images: among --probe-images, too.")
    return probe, judges


def _layers(model: TargetModel, layers: list[str] | None) -> tuple[str, ...]:
    """The layers whose units are judged, in the order of the network: those named, or those of the model's atlas."""
    from miclip.atlas import find_atlas
    from miclip.models.target import LOGITS

    hidden = [name for name, layer in model.layers.items() if layer.base == name and name != LOGITS]
    named = [layer for layer in layers or [] if layer != "all"]
    if unknown := [layer for layer in named if layer not in hidden]:
        allowed = ", ".join(hidden)
        text = f"--layer: {unknown[0]!r} is no layer of {model.name} below the logits."
        raise InvalidInput(text, field="--layer", allowed=allowed)
    if layers:
        return tuple(name for name in hidden if name in named or not named)
    aligned = find_atlas(model.name, model_weights_sha256=model.weights_sha256).neuron_layers
    if found := tuple(name for name in hidden if name in aligned):
        return found
    text = f"--layer: the atlas of {model.name} has no layer below the logits; name some."
    raise InvalidInput(text, field="--layer", allowed=", ".join(hidden))
