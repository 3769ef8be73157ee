"""Steer a PyTorch model in this process by the policies of a running miclip server.

    from miclip.attach import attach

    with attach(model, "emoji-resnet", policy="policies/more-dogs") as steering:
        logits = model(images)                                   # steered as the server steers Predict
        with steering.using(["policies/more-dogs", None]):       # row by row
            logits = model(pair)
        print(steering.applied, steering.stale)

A thread follows the server: a new version of a policy, a deletion, the kill switch, each takes effect with the next
forward pass, never in the middle of one. While the server is away the last known policies stay in force, and end when
their time to live does.
"""

from __future__ import annotations

from miclip.attach._attach import attach
from miclip.attach._steering import Steering

__all__ = ["Steering", "attach"]
