"""The command line against a server: it needs the client and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from miclip.v1 import activation_pb2, resources_pb2, retrieval_pb2, steering_pb2

HEAVY = frozenset(
    {"numpy", "torch", "torchvision", "ray", "faiss", "scipy", "sklearn", "transformers", "redis", "services"}
)
MODEL = "models/emoji-resnet"
LAYER = f"{MODEL}/layers/layer4"
UNIT = f"{LAYER}/units/7"
RUN = """
import sys
from miclip.cli.app import main
try:
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture
def answering(server: Any) -> Any:
    """A server that knows one model of one layer."""
    layers = [activation_pb2.Layer(name=LAYER, units=512, kind=resources_pb2.LAYER_KIND_CHANNELS, aligned=True)]
    located = retrieval_pb2.ConceptLocalization(text="dog", units=[retrieval_pb2.LocatedUnit(unit=UNIT, score=0.5)])
    provenance = resources_pb2.Provenance(layers=[LAYER])
    concept = resources_pb2.LabeledConcept(concept="dog")
    image = activation_pb2.ImagePrediction(predictions=[activation_pb2.Prediction(label="dog", probability=1)])
    server.answers |= {
        "GetModel": server.always(
            activation_pb2.GetModelResponse(model=activation_pb2.Model(name=MODEL, layers=layers))
        ),
        "LocalizeConcepts": server.always(
            retrieval_pb2.LocalizeConceptsResponse(localizations=[located], provenance=provenance)
        ),
        "DescribeUnits": server.always(
            retrieval_pb2.DescribeUnitsResponse(
                descriptions=[retrieval_pb2.UnitDescription(unit=UNIT, concepts=[concept])]
            )
        ),
        "Predict": server.always(activation_pb2.PredictResponse(results=[image])),
        "ListPolicies": server.always(steering_pb2.ListPoliciesResponse()),
    }
    return server


@pytest.mark.parametrize(
    "arguments",
    [
        ("localize", "dog"),
        ("describe", "layer4/7"),
        ("predict", "IMAGE"),
        ("steer", "list"),
        ("localize", "dog", "--json"),
    ],
    ids=" ".join,
)
def test_a_command_that_a_server_answers_imports_no_heavy_library(
    answering: Any, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"the server decodes it")
    words = [str(image) if word == "IMAGE" else word for word in arguments]
    known = {"MICLIP_ENDPOINT": answering.endpoint, "MICLIP_API_KEY": "k", "MICLIP_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(
        command, env={**os.environ, **known}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    packages = json.loads(done.stderr.strip().splitlines()[-1].replace("'", '"'))
    assert set(packages) & HEAVY == set()
