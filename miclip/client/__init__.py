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
from miclip.client.watch import PolicyStream
from miclip.evidence import Evidence, LabelShare
from miclip.local_server import APPLICATIONS
from miclip.models.predictions import AppliedSteering, CaptureResult, ImagePrediction, Prediction, PredictResult
from miclip.retrieval.results import (
    DescribeResult,
    Description,
    Embeddings,
    ImageTrace,
    LayerTrace,
    Localization,
    LocalizeResult,
    LocatedUnit,
    Provenance,
    ScoredConcept,
    TopImage,
    TraceResult,
    UnitRecord,
    UnitStatistics,
)
from miclip.steering.policy import ConceptSteering, Policy, RequestedEdit, make_policy
from miclip.steering.receipt import Receipt
from miclip.steering.stop import Stop

__all__ = [
    "APPLICATIONS",
    "AppliedSteering",
    "AsyncMiclipClient",
    "CaptureResult",
    "ConceptSteering",
    "DescribeResult",
    "Description",
    "Embeddings",
    "Evidence",
    "ImagePrediction",
    "ImageTrace",
    "LabelShare",
    "LayerTrace",
    "Localization",
    "LocalizeResult",
    "LocatedUnit",
    "MiclipClient",
    "Options",
    "Policy",
    "PolicyStream",
    "PredictResult",
    "Prediction",
    "Provenance",
    "Receipt",
    "RequestedEdit",
    "ScoredConcept",
    "Stop",
    "TopImage",
    "TraceResult",
    "UnitRecord",
    "UnitStatistics",
    "make_policy",
]
