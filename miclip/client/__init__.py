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
from miclip.client.health import APPLICATIONS
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
from miclip.client.watch import PolicyStream
from miclip.steering.policy import ConceptSteering, Policy, RequestedEdit, make_policy
from miclip.steering.receipt import Receipt
from miclip.steering.stop import Stop

__all__ = [
    "APPLICATIONS",
    "AppliedSteering",
    "AsyncMiclipClient",
    "CaptureResult",
    "Concept",
    "ConceptSteering",
    "DescribeResult",
    "Embeddings",
    "ImagePrediction",
    "Localization",
    "LocalizeResult",
    "LocatedUnit",
    "MiclipClient",
    "Options",
    "Policy",
    "PolicyStream",
    "PredictResult",
    "Prediction",
    "Receipt",
    "RequestedEdit",
    "Stop",
    "TraceResult",
    "UnitDescription",
    "make_policy",
]
