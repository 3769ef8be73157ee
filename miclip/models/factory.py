"""A model that a function in the user's own Python file makes: ``net.py:make_model``.

That runs the user's code, so the command line and the library alone come here, never a request. What was imported
records the file's hash; a server of the same user may make the model again as long as the file stays as it was.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from miclip.errors import BadArtefact, InvalidInput

LIBRARY = "factory"
OPTIONS = ("labels", "layers", "size", "resize", "resize_size", "interpolation", "mean", "std", "class_token",
           "prefix_tokens", "channels_last")  # fmt: skip
"""What a factory may say beside the module: names of its outputs and layers, and fields of ``Preprocessing`` and
``Layout``."""
PREPROCESSING: dict[str, Any] = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Where neither the factory nor the user says more: the size and the ImageNet statistics of most classifiers."""
_FORM = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True)
class Made:
    """What a factory gives.

    Attributes:
        module: The model, with the weights that the factory gave it.
        options: Of ``OPTIONS``.
        name: Name of the factory.
        parameters: What ``remake`` needs: the file, and the hashes of it and of its neighbours that it imports.
    """

    module: nn.Module
    options: dict[str, Any]
    name: str
    parameters: dict[str, Any]


def is_factory(source: str) -> bool:
    """Whether a source has the form ``file.py:factory``."""
    return _FORM.fullmatch(source) is not None


def make(source: str) -> Made:
    """Run the factory of ``file.py:factory``; raises InvalidInput, saying which line failed."""
    form = _FORM.fullmatch(source)
    if form is None:
        raise InvalidInput(f"model: {source[:80]!r} is not file.py:factory.", field="model", allowed="file.py:factory")
    path = Path(form["file"]).expanduser().resolve()
    if not path.is_file():
        raise InvalidInput(f"model: there is no file {path.name!r}.", field="model", allowed="an existing file")
    (module, options), hashes = _run(path, form["name"])
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        allowed = ", ".join(OPTIONS)
        text = f"model: {form['name']}() returns the option {str(unknown[0])[:80]!r}; use {allowed}."
        raise InvalidInput(text, field="model", allowed=allowed)
    return Made(module, options, form["name"], {"file": str(path), "sha256": hashes})


def remake(name: str, parameters: Mapping[str, Any]) -> nn.Module:
    """Make an imported model's module again.

    Raises:
        BadArtefact: a file is missing or has changed since the import.
        InvalidInput: the factory fails.
    """
    path = Path(str(parameters.get("file", "")))
    hashes = parameters.get("sha256")
    if not isinstance(hashes, dict) or path.name not in hashes:
        raise BadArtefact("The description of a model does not say which file makes it. Align the model again.")
    for neighbour, expected in hashes.items():
        file = path.parent / neighbour
        if not file.is_file() or _sha256(file.read_bytes()) != expected:
            text = (f"{neighbour} has changed since the model was imported, or is missing: it is not run. Undo the "
                    "change; or remove the model (miclip rm models/ID) and align it again.")  # fmt: skip
            raise BadArtefact(text)
    (module, _), _ = _run(path, name)
    return module


def _run(path: Path, name: str) -> tuple[tuple[nn.Module, dict[str, Any]], dict[str, str]]:
    """Return what the factory makes, and the hash of every file of its folder that took part, by its path there.

    Modules of the folder are forgotten afterwards: those of another model may have the same names.
    """
    data = path.read_bytes()
    with _blamed(path, name), redirect_stdout(sys.stderr), _neighbours(path) as neighbours:
        made = _function(path, data, name)()
    hashes = {str(file.relative_to(path.parent)): _sha256(file.read_bytes()) for file in sorted(neighbours)}
    return _module_and_options(made, name), {path.name: _sha256(data), **hashes}


def _function(path: Path, data: bytes, name: str) -> Callable[[], Any]:
    module = ModuleType(f"miclip_factory_{_sha256(data)[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(data, str(path), "exec"), module.__dict__)  # the very bytes that were hashed
    function = getattr(module, name, None)
    if not callable(function):
        allowed = ", ".join(key for key, value in vars(module).items() if getattr(value, "__module__", "") ==
                            module.__name__) or "none"  # fmt: skip
        raise InvalidInput(f"model: {path.name} has no function {name!r}; it has {allowed}.", field="model",
                           allowed=allowed)  # fmt: skip
    made: Callable[[], Any] = function
    return made


def _module_and_options(made: Any, name: str) -> tuple[nn.Module, dict[str, Any]]:
    module, options = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(options, Mapping):
        text = f"model: {name}() returns a {type(made).__name__}, not a torch.nn.Module or (module, options)."
        raise InvalidInput(text, field="model", allowed="an nn.Module, or (nn.Module, dict of options)")
    return module, dict(options)


@contextmanager
def _neighbours(path: Path) -> Iterator[list[Path]]:
    """Let the file import its neighbours, as ``python file.py`` does, then forget them; gives their files."""
    found: list[Path] = []
    before = set(sys.modules)
    sys.path.insert(0, str(path.parent))
    try:
        yield found
    finally:
        sys.path.remove(str(path.parent))
        came = {name: file for name in set(sys.modules) - before if (file := _file_below(name, path))}
        for name in came:
            del sys.modules[name]
        found.extend(came.values())


@contextmanager
def _blamed(path: Path, name: str) -> Iterator[None]:
    """Name the user's line that failed."""
    try:
        yield
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"line {lines[-1]} of {path.name}" if lines else path.name
        said = " ".join(str(error).split())[:200]
        text = f"model: {name}() fails at {where}: {type(error).__name__}: {said}"
        raise InvalidInput(text, field="model") from error


def _file_below(module: str, path: Path) -> Path | None:
    """Return a module's file where it is the user's, in the folder of ``path`` or below."""
    file = getattr(sys.modules[module], "__file__", None)
    if not file or module.partition(".")[0] == "miclip":
        return None
    found = Path(file).resolve()
    ours = found.is_relative_to(path.parent) and "site-packages" not in found.parts and found != path
    return found if ours and found.suffix == ".py" else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
