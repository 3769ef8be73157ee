#!/usr/bin/env python3
"""Ask a server's four services over gRPC for their health and for one real answer each: ``ask_services.py STATE_DIR``.

Prints a line a service; exits with 1 when one does not answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from miclip.client import MiclipClient  # noqa: E402  # the tree that this file is in
from miclip.demo.assets import IMAGES  # noqa: E402

MODEL, UNIT = "emoji-resnet", "models/emoji-resnet/layers/layer4/units/10"


def answers(client: MiclipClient) -> dict[str, str]:
    """One answer of each service, in words."""
    best = client.predict([IMAGES / "twemoji" / "airplane.webp"], model=MODEL).images[0].predictions[0]
    concept = client.describe([UNIT]).descriptions[0].concepts[0]
    texts = client.embed_texts(["dog"])
    return {
        "activation": f"sees {best.label} in the picture of an airplane",
        "aligner": f"embeds a text in {texts.values.shape[1]} dimensions",
        "retrieval": f"calls unit 10 of layer4 {concept.concept}",
        "steering": f"has {len(client.list_policies())} policies",
    }


def main() -> int:
    """Ask; returns the exit status."""
    state = Path(sys.argv[1])
    endpoint = json.loads((state / "server.json").read_text())["grpc"]
    with MiclipClient(endpoint=endpoint, api_key=(state / "api_key").read_text().strip()) as client:
        health, said = client.health(), answers(client)
    for service, status in health.items():
        print(f"{service}: {status}, {said[service]}")
    return int(set(health.values()) != {"SERVING"})


if __name__ == "__main__":
    sys.exit(main())
