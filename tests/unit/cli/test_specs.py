"""The small languages of the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miclip.cli.policies import edit_text
from miclip.cli.specs import (
    ConceptSteer,
    PolicySteer,
    full_layer,
    parse_ranges,
    parse_steer,
    parse_units,
    short_layer,
    short_unit,
)
from miclip.errors import InvalidInput
from miclip.names import UnitName
from miclip.steering.edits import Edit, Op


@pytest.mark.parametrize(
    "given_form", ["layer4/12", "emoji-resnet/layer4/12", "models/emoji-resnet/layers/layer4/units/12"]
)
def test_all_three_forms_name_the_same_unit(given_form: str) -> None:
    assert parse_units([given_form], "emoji-resnet") == [UnitName("emoji-resnet", "layer4", 12)]


@pytest.mark.parametrize(
    "given_form",
    ["layer4@topk-512/12", "layer4/dictionaries/topk-512/12", "emoji-resnet/layer4@topk-512/12",
     "emoji-resnet/layer4/dictionaries/topk-512/12",
     "models/emoji-resnet/layers/layer4/dictionaries/topk-512/features/12"],
)  # fmt: skip
def test_every_form_of_a_feature_names_the_same_one(given_form: str) -> None:
    (found,) = parse_units([given_form], "emoji-resnet")
    assert found == UnitName("emoji-resnet", "layer4/dictionaries/topk-512", 12)
    assert short_unit(found) == "layer4@topk-512/12"


def test_a_layer_of_features_is_the_same_however_it_is_written() -> None:
    for name in ("layer4", "blocks.2/dictionaries/topk-256", "logits"):
        assert full_layer(short_layer(name)) == full_layer(name) == name


def test_dots_of_a_layer_stay() -> None:
    assert parse_units(["blocks.3/0"], "emoji-vit") == [UnitName("emoji-vit", "blocks.3", 0)]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "layer4",
        "layer4/-1",
        "layer4/x",
        "a/b/c/d",
        "../etc/passwd",
        "layer4/01",
        "/",
        "//",
        "layer4@/12",
        "@topk/12",
        "layer4@topk",
        "layer4@a@b/1",
        "models/m/layers/layer4/dictionaries/topk/units/1",
        "models/m/layers/layer4/features/1",
    ],
)
def test_what_is_no_unit_is_refused_with_the_forms_that_are(bad: str) -> None:
    with pytest.raises(InvalidInput, match="LAYER/UNIT") as caught:
        parse_units(["layer4/1", bad], "emoji-resnet")
    assert caught.value.field == "UNIT 2"


def test_ranges_hold_both_ends_and_keep_their_order() -> None:
    assert parse_ranges("12,0-3, 7") == [12, 0, 1, 2, 3, 7]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_list_of_numbers_reads_as_itself(numbers: list[int]) -> None:
    assert parse_ranges(",".join(map(str, numbers))) == numbers


@pytest.mark.parametrize("bad", ["", "a", "3-1", "1-", "-1", "1,,2", "0-99999999", "1.5", "٣"])
def test_what_is_no_range_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput, match="--units"):
        parse_ranges(bad)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("dog=2.0", ConceptSteer("dog", 2.0)),
        ("hot dog = 0", ConceptSteer("hot dog", 0.0)),
        ("dog*-1", ConceptSteer("dog", -1.0)),
        ("1+1=2=3", ConceptSteer("1+1=2", 3.0)),
        ("layer4/12*2", Edit("layer4", 12, Op.SCALE, 2.0)),
        ("layer4/12 ×2", Edit("layer4", 12, Op.SCALE, 2.0)),
        ("layer4/12=0", Edit("layer4", 12, Op.CLAMP, 0.0)),
        ("blocks.3/7+0.5", Edit("blocks.3", 7, Op.ADD, 0.5)),
        ("layer4/7-0.5", Edit("layer4", 7, Op.ADD, -0.5)),
        ("layer4/7+-.5e1", Edit("layer4", 7, Op.ADD, -5.0)),
        ("layer4@topk-512/7*2", Edit("layer4/dictionaries/topk-512", 7, Op.SCALE, 2.0)),
        ("layer4@topk-512/7-1e-3", Edit("layer4/dictionaries/topk-512", 7, Op.ADD, -0.001)),
        ("layer4/dictionaries/topk-512/7=0", Edit("layer4/dictionaries/topk-512", 7, Op.CLAMP, 0.0)),
        ("emoji-resnet/layer4/12*2", Edit("layer4", 12, Op.SCALE, 2.0)),
        ("emoji-resnet/layer4@topk-512/7*2", Edit("layer4/dictionaries/topk-512", 7, Op.SCALE, 2.0)),
        ("models/emoji-resnet/layers/layer4/units/12*2", Edit("layer4", 12, Op.SCALE, 2.0)),
        (
            "models/emoji-resnet/layers/layer4/dictionaries/topk-512/features/7=0",
            Edit("layer4/dictionaries/topk-512", 7, Op.CLAMP, 0.0),
        ),
        ("AC/DC=2", ConceptSteer("AC/DC", 2.0)),
        ("red 4/4 time=2", ConceptSteer("red 4/4 time", 2.0)),
        ("score 4:3=2", ConceptSteer("score 4:3", 2.0)),
        ("policies/more-dogs", PolicySteer("more-dogs")),
    ],
)
def test_every_form_of_steering_is_understood(text: str, meaning: object) -> None:
    assert parse_steer(text, "emoji-resnet") == meaning


@pytest.mark.parametrize("edit", [Edit("layer4", 12, Op.SCALE, 2.0), Edit("layer4/dictionaries/d", 0, Op.ADD, -0.5),
                                  Edit("blocks.3", 7, Op.CLAMP, 0.0)])  # fmt: skip
def test_an_edit_is_read_as_it_is_printed(edit: Edit) -> None:
    assert parse_steer(edit_text(edit), "m") == edit


def test_a_unit_of_another_model_is_refused_with_the_option_that_steers_it() -> None:
    with pytest.raises(InvalidInput, match="Add --model emoji-vit"):
        parse_steer("emoji-vit/blocks.3/7*2", "emoji-resnet")


@pytest.mark.parametrize("value", ["layer4:12*2", "layer4@topk-512:7+0.5", "layer4:12=0"])
def test_a_colon_before_the_unit_is_no_concept(value: str) -> None:
    with pytest.raises(InvalidInput, match="a slash before the unit") as caught:
        parse_steer(value, "m")
    assert f'"{value.replace(":", "/")}"' in caught.value.message


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "dog",
        "dog=",
        "=2",
        "dog=nan",
        "dog=inf",
        "dog=1e999",
        "layer4/7*",
        "layer4/7*x",
        "layer4/12",
        "layer4/012*2",
        "policies/",
        "policies/../x",
    ],
)
def test_what_is_no_steering_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput, match="--steer") as caught:
        parse_steer(bad, "m")
    assert caught.value.allowed


@given(st.text(max_size=60))
def test_any_text_is_either_steering_or_refused(text: str) -> None:
    try:
        parse_steer(text, "m")
    except InvalidInput as error:
        assert "--steer" in error.message
