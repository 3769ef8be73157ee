"""Where a model can come from: a library, a folder, or the user's own code; built, but for its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from miclip.errors import InvalidInput
from miclip.models import factory, huggingface
from miclip.models.discovery import Survey
from miclip.models.factory import is_factory
from miclip.models.families import BUILDERS, SOURCES, build_family
from miclip.models.files import TargetSpec
from miclip.models.labels import imagenet_labels
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import Layout

_DIMENSIONS = 512
"""Outputs of an OpenCLIP tower that is built without labels or weights, for its layers alone."""


@dataclass(frozen=True)
class Given:
    """What the user says of a model beside its source and weights.

    Attributes:
        labels: Names of the outputs; empty takes those that come with the model, of 1000 outputs ImageNet-1k's.
        layers: Module paths; empty takes the defaults.
        size: Edge of the square input in pixels; 0 takes the model's.
        mean: Per channel, on the scale 0 to 1; empty takes the model's.
        std: Per channel, on the scale 0 to 1; empty takes the model's.
    """

    labels: Sequence[str] = ()
    layers: Sequence[str] = ()
    size: int = 0
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def adjust(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return the preprocessing with what is said here in its place."""
        if self.size:
            resized = round(preprocessing.resize_size * self.size / preprocessing.size)
            preprocessing = replace(preprocessing, size=self.size, resize_size=resized)
        return replace(
            preprocessing, mean=tuple(self.mean) or preprocessing.mean, std=tuple(self.std) or preprocessing.std
        )


NOTHING = Given()


def build_foreign(source: str, given: Given = NOTHING) -> tuple[TargetSpec, nn.Module]:
    """Build a model of any source but for its weights: random ones, or those that a factory gives.

    Returns:
        How to build it again, without labels where nothing names them, and the module.

    Raises:
        InvalidInput: the source cannot be built.
    """
    if is_factory(source):
        return _build_factory(source, given)
    name = checkpoint_name(source)
    if name:
        return _build_checkpoint(source, name, given)
    labels = tuple(given.labels) or (() if source.startswith("open_clip/") else imagenet_labels())
    family = build_family(source, len(labels) or _DIMENSIONS)
    return make_spec(
        source, source, {}, labels, family.layers, family.layout, family.preprocessing, given
    ), family.module


def default_id(source: str) -> str:
    """Return the id that a source gets when none is chosen.

    ``timm/resnet50`` → ``timm-resnet50``, ``./my-vit/`` → ``my-vit``, ``nets/small.py:make`` → ``small-make``.
    """
    if is_factory(source) or checkpoint_name(source):
        path = Path(source.removeprefix("transformers/")).expanduser()
        local = is_factory(source) or path.is_dir()
        source = path.resolve().name.replace(".py:", "-") if local else str(path)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", source).strip("-.")


def needs_weights(source: str) -> bool:
    """Whether a source has no weights of its own, so that the user must say where they are.

    Raises:
        InvalidInput: it is none: no library's, no folder of a transformers model, no file of code.
    """
    if is_factory(source) or checkpoint_name(source):
        return False
    if source.partition("/")[0] not in BUILDERS:
        there = Path(source).is_dir()
        hint = " That folder has no config.json that names an architecture." if there else ""
        raise InvalidInput(f"model: {source[:80]!r} is not {SOURCES}.{hint}", field="model", allowed=SOURCES)
    return True


def is_source(model: str) -> bool:
    """Whether what the user names is where a model comes from, rather than the id of one that is known."""
    return "/" in model or is_factory(model) or huggingface.is_checkpoint(Path(model))


def checkpoint_name(source: str) -> str:
    """Return the folder or hub name of a transformers model; empty for another source."""
    if source.startswith(f"{huggingface.LIBRARY}/"):
        return source.removeprefix(f"{huggingface.LIBRARY}/")
    return source if huggingface.is_checkpoint(Path(source)) else ""


def _build_checkpoint(source: str, name: str, given: Given) -> tuple[TargetSpec, nn.Module]:
    found = huggingface.read_checkpoint(name)
    preprocessing = huggingface.read_preprocessing(name, found.config)
    _, _, model_type = found.architecture.partition("/")
    module = huggingface.build(model_type, found.outputs, found.config)
    layers, layout = _discover(Survey(module, given.size or preprocessing.size), given.layers)
    labels = tuple(given.labels) or found.labels or _thousand(found.outputs)
    spec = make_spec(source, found.architecture, found.config, labels, layers, layout, preprocessing, given)
    return spec.model_copy(update={"licence": huggingface.read_licence(name)}), module


def _build_factory(source: str, given: Given) -> tuple[TargetSpec, nn.Module]:
    made = factory.make(source)
    fields = {name: made.options[name] for name in factory.OPTIONS if name in made.options}
    labels, layers = fields.pop("labels", ()), fields.pop("layers", ())
    own = {name: fields.pop(name) for name in ("class_token", "prefix_tokens", "channels_last") if name in fields}
    preprocessing = _options(factory.PREPROCESSING | fields, made.name)
    survey = Survey(made.module, given.size or preprocessing.size)
    layers, layout = _discover(survey, tuple(given.layers) or tuple(layers))
    layout = replace(layout, **own)
    labels = given.labels or labels or getattr(made.module, "labels", ())
    named = tuple(map(str, labels)) or _thousand(survey.outputs)
    architecture = f"{factory.LIBRARY}/{made.name}"
    return make_spec(source, architecture, made.parameters, named, layers, layout, preprocessing, given), made.module


def _options(fields: dict[str, Any], name: str) -> Preprocessing:
    try:
        return TypeAdapter(Preprocessing).validate_python(fields)
    except ValidationError as error:
        wrong = error.errors()[0]
        said = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg'].lower()}"
        raise InvalidInput(f"model: the options of {name}() cannot be used: {said}.", field="model") from error


def _discover(survey: Survey, layers: Sequence[str]) -> tuple[tuple[str, ...], Layout]:
    chosen = tuple(layers) or survey.layers()
    layout = survey.layout(chosen)
    survey.check_layers(chosen, layout)
    return chosen, layout


def make_spec(
    source: str, architecture: str, parameters: dict[str, Any], labels: tuple[str, ...], layers: Sequence[str],
    layout: Layout, preprocessing: Preprocessing, given: Given,
) -> TargetSpec:  # fmt: skip
    """Return how to build a model again: what was found, with what the user gave in its place."""
    return TargetSpec(
        architecture=architecture,
        parameters=parameters,
        labels=labels,
        layers=tuple(given.layers) or tuple(layers),
        preprocessing=given.adjust(preprocessing),
        layout=layout,
        source=source,
    )


def _thousand(outputs: int) -> tuple[str, ...]:
    return imagenet_labels() if outputs == 1000 else ()
