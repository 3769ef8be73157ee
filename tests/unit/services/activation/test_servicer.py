"""What the activation service checks of a model's answer."""

from __future__ import annotations

import math

import pytest
import torch

from miclip.errors import InvalidInput
from miclip.v1 import activation_pb2 as pb
from miclip.v1 import resources_pb2
from services.activation.batching import RowOutput
from services.activation.servicer import check_finite

FINE = RowOutput(torch.ones(2), {"layer4": torch.ones(3)})
BEYOND = {
    "logits": RowOutput(torch.tensor([1.0, math.nan]), {}),
    "a captured layer": RowOutput(torch.ones(2), {"layer4": torch.tensor([math.inf])}),
}
BY_EDITS = pb.PredictRequest(edits=resources_pb2.EditList())
BY_POLICY = pb.CaptureActivationsRequest(policy="policies/p")


@pytest.mark.parametrize(("request_", "field"), [(BY_EDITS, "edits"), (BY_POLICY, "policy")])
@pytest.mark.parametrize("where", BEYOND)
def test_edits_that_drive_the_model_beyond_its_numbers_are_refused(
    request_: pb.PredictRequest, field: str, where: str
) -> None:
    check_finite([FINE, FINE], request_)
    with pytest.raises(InvalidInput, match="Use smaller values") as caught:
        check_finite([FINE, BEYOND[where]], request_)
    assert caught.value.field == field
