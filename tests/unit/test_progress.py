"""Progress is one value, whose text is what people read."""

from __future__ import annotations

import pytest

from miclip.progress import Progress, Report, Stage, StageKind, about


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (Stage(StageKind.ATLAS), "atlas"),
        (Stage(StageKind.ENCODER, "layer4"), "encoder layer4"),
        (Stage(StageKind.LABELS, "layer4", "emoji-resnet"), "emoji-resnet: labels layer4"),
        (Stage.named("encoder layer4"), "encoder layer4"),
        (Stage.named(""), ""),
    ],
)
def test_a_stage_reads_as_its_subject_kind_and_layer(stage: Stage, text: str) -> None:
    assert str(stage) == text


def test_a_stage_that_is_known_by_its_text_is_none_of_the_kinds() -> None:
    assert Stage.named("encoder layer4") != Stage(StageKind.ENCODER, "layer4")


def test_work_about_a_subject_is_reported_as_its_own() -> None:
    seen: list[Progress] = []
    report: Report = about("emoji-vit", seen.append)
    report(Progress(Stage(StageKind.ENCODER, "norm"), 3, 10, 0.5))
    assert seen == [Progress(Stage(StageKind.ENCODER, "norm", "emoji-vit"), 3, 10, 0.5)]
