"""Typed Python client of the four services, blocking and asyncio.

Example::

    from miclip.client import MiclipClient

    with MiclipClient() as client:
        print(client.localize("dog", model="emoji-resnet").localizations[0].units)
"""

from __future__ import annotations

from miclip.client.asynchronous import AsyncMiclipClient
from miclip.client.blocking import MiclipClient
from miclip.client.connection import Options
from miclip.client.results import (
    AppliedSteering,
    CaptureResult,
    Concept,
    DescribeResult,
    Embeddings,
    ImagePrediction,
    Localization,
    LocalizeResult,
    LocatedUnit,
    Prediction,
    PredictResult,
    TraceResult,
    UnitDescription,
)
from miclip.client.steering import make_policy
from miclip.client.watch import PolicyStream
from miclip.local_server import APPLICATIONS

__all__ = [
    "APPLICATIONS",
    "AppliedSteering",
    "AsyncMiclipClient",
    "CaptureResult",
    "Concept",
    "DescribeResult",
    "Embeddings",
    "ImagePrediction",
    "Localization",
    "LocalizeResult",
    "LocatedUnit",
    "MiclipClient",
    "Options",
    "PolicyStream",
    "PredictResult",
    "Prediction",
    "TraceResult",
    "UnitDescription",
    "make_policy",
]
