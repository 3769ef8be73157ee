from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput, NotFound
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import small_resnet, small_vit
from miclip.models.target import LayerKind, Layout, Output, TargetModel
from miclip.steering.edits import Edit, Op, compile_edits

CLASSES = 10
FAMILIES = {
    "resnet": (small_resnet, ("layer1", "layer2", "layer3", "layer4")),
    "vit": (small_vit, ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm")),
}


def lively(module: nn.Module) -> nn.Module:
    """Random weights for every parameter: as initialised, residual branches end in zeros and would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        scale = 0.3 if parameter.ndim == 1 else 1.2 / parameter[0].numel() ** 0.5
        shift = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data = shift + scale * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> TargetModel:
    build, modules = FAMILIES[request.param]
    labels = [f"class {index}" for index in range(CLASSES)]
    preprocessing = Preprocessing(64, resize="squash", interpolation="bilinear")
    return TargetModel(
        request.param, lively(build(CLASSES)), labels=labels, modules=modules, preprocessing=preprocessing
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def middle(model: TargetModel) -> str:
    return list(model.layers)[1]


def same_bits(left: Output, right: Output, rows: list[int] | None = None) -> bool:
    pick = slice(None) if rows is None else rows
    pairs = [(left.logits, right.logits), *((left.activations[k], right.activations[k]) for k in left.activations)]
    return all(torch.equal(a[pick], b[pick]) for a, b in pairs)


def test_layers_have_kinds_and_sizes(model: TargetModel) -> None:
    kind = LayerKind.CHANNELS if model.name == "resnet" else LayerKind.TOKENS
    *inner, logits = model.layers.values()
    assert {layer.kind for layer in inner} == {kind}
    assert [layer.units for layer in inner] == ([32, 64, 128, 256] if model.name == "resnet" else [128] * 5)
    assert (logits.name, logits.kind, logits.units, logits.module) == ("logits", LayerKind.LOGITS, CLASSES, "")
    assert model.layer_sizes["logits"] == CLASSES


def test_forward_gives_what_the_module_gives(model: TargetModel, images: Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(model.forward(images).logits, model.module(images), rtol=1e-4, atol=1e-4)


def test_captured_activations_are_the_pooled_outputs(model: TargetModel, images: Tensor) -> None:
    seen: dict[str, Tensor] = {}
    layer = middle(model)
    handle = model.module.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.update(x=o.clone()))
    output = model.forward(images, [layer, "logits"])
    handle.remove()
    pooled = seen["x"].mean(dim=(2, 3)) if model.name == "resnet" else seen["x"].mean(dim=1)
    torch.testing.assert_close(output.activations[layer], pooled)
    assert torch.equal(output.activations["logits"], output.logits)
    assert output.activations[layer].dtype == torch.float32


@pytest.mark.parametrize(
    "edits",
    [
        None,
        [],
        [Edit("logits", 0, Op.SCALE, 1.0)],
        [Edit("LAYER", 3, Op.SCALE, 1.0)],
        [Edit("LAYER", 3, Op.ADD, 0.0)],
    ],
)
def test_an_empty_edit_is_bit_identical_to_none(model: TargetModel, images: Tensor, edits: list[Edit] | None) -> None:
    plain = model.forward(images, list(model.layers))
    batch = None
    if edits is not None:
        named = [Edit(middle(model) if e.layer == "LAYER" else e.layer, e.unit, e.op, e.value) for e in edits]
        batch = compile_edits([named] * len(images), model.layer_sizes)
    assert same_bits(plain, model.forward(images, list(model.layers), batch))


def test_rows_without_edits_are_bit_identical_to_the_same_batch_unedited(model: TargetModel, images: Tensor) -> None:
    strong = [Edit(layer, 1, Op.ADD, 50.0) for layer in model.layers]
    batch = compile_edits([[], strong, [], strong, strong, []], model.layer_sizes)
    plain, steered = model.forward(images, list(model.layers)), model.forward(images, list(model.layers), batch)
    assert same_bits(plain, steered, [0, 2, 5])
    assert not torch.allclose(plain.logits[[1, 3, 4]], steered.logits[[1, 3, 4]], atol=1e-2)


def test_an_output_does_not_depend_on_batch_mates(model: TargetModel, images: Tensor) -> None:
    mine = [Edit(middle(model), 3, Op.SCALE, 3.0)]
    others = [Edit(middle(model), 5, Op.CLAMP, 40.0), Edit("logits", 1, Op.ADD, 5.0)]
    batch = compile_edits([others, [], mine, others, others, []], model.layer_sizes)
    mixed = model.forward(images, list(model.layers), batch)
    alone = model.forward(images[2:3], list(model.layers), compile_edits([mine], model.layer_sizes))
    torch.testing.assert_close(mixed.logits[2:3], alone.logits, rtol=1e-4, atol=1e-4)
    for layer, activations in alone.activations.items():
        torch.testing.assert_close(mixed.activations[layer][2:3], activations, rtol=1e-4, atol=1e-4)


def test_edits_reach_every_position_that_the_next_module_reads(model: TargetModel, images: Tensor) -> None:
    layer, following = list(model.layers)[1:3]
    seen: dict[str, Tensor] = {}
    handle = model.module.get_submodule(following).register_forward_pre_hook(lambda m, i: seen.update(x=i[0].clone()))
    model.forward(images)
    plain = seen["x"]
    output = model.forward(images, [layer], compile_edits([[Edit(layer, 7, Op.CLAMP, 2.5)]] * 6, model.layer_sizes))
    handle.remove()
    axis = 1 if model.name == "resnet" else 2
    assert torch.equal(seen["x"].select(axis, 7), torch.full_like(seen["x"].select(axis, 7), 2.5))
    assert torch.equal(seen["x"].narrow(axis, 0, 7), plain.narrow(axis, 0, 7))
    torch.testing.assert_close(output.activations[layer][:, 7], torch.full((6,), 2.5))


def test_edits_on_logits_change_the_logits(model: TargetModel, images: Tensor) -> None:
    batch = compile_edits([[Edit("logits", 4, Op.CLAMP, 99.0)]] * 6, model.layer_sizes)
    output = model.forward(images, ["logits"], batch)
    assert (output.logits[:, 4] == 99.0).all()
    assert torch.equal(output.activations["logits"], output.logits)


def margin(logits: Tensor, predicted: Tensor) -> Tensor:
    return (logits.gather(1, predicted[:, None])[:, 0] - logits.mean(dim=1)).double()


def test_attribution_is_the_finite_difference_of_a_gain(model: TargetModel, images: Tensor) -> None:
    layers = list(model.layers)
    logits, activations, attributions = model.attribute(images, layers)
    plain = model.forward(images, layers)
    torch.testing.assert_close(logits, plain.logits)
    predicted, step = logits.argmax(dim=1), 0.01
    for layer in layers:
        torch.testing.assert_close(activations[layer], plain.activations[layer])
        strongest = attributions[layer].abs().mean(dim=0).topk(3).indices.tolist()
        for unit in strongest:
            sides = [
                margin(
                    model.forward(
                        images, (), compile_edits([[Edit(layer, unit, Op.SCALE, gain)]] * 6, model.layer_sizes)
                    ).logits,
                    predicted,
                )
                for gain in (1 + step, 1 - step)
            ]
            difference = ((sides[0] - sides[1]) / (2 * step)).float()
            scale = attributions[layer][:, unit].abs().max().item()
            torch.testing.assert_close(attributions[layer][:, unit], difference, rtol=0.05, atol=0.03 * scale)


def test_attributions_of_logits_are_the_margin_gradient_times_the_logits(model: TargetModel, images: Tensor) -> None:
    logits, _, attributions = model.attribute(images, ["logits"])
    gradient = nn.functional.one_hot(logits.argmax(dim=1), CLASSES) - 1 / CLASSES
    torch.testing.assert_close(attributions["logits"], gradient * logits)


def test_attributing_many_layers_at_once_equals_one_at_a_time(model: TargetModel, images: Tensor) -> None:
    together = model.attribute(images, list(model.layers))[2]
    for layer in model.layers:
        torch.testing.assert_close(model.attribute(images, [layer])[2][layer], together[layer], rtol=1e-3, atol=1e-4)


def test_results_may_take_part_in_training(model: TargetModel, images: Tensor) -> None:
    activations = model.forward(images, [middle(model)]).activations[middle(model)]
    encoder = nn.Linear(activations.shape[1], 2)
    encoder(activations).sum().backward()
    assert encoder.weight.grad is not None


def test_no_hook_stays_behind_even_after_an_error(model: TargetModel, images: Tensor) -> None:
    model.forward(images, list(model.layers))
    model.attribute(images, list(model.layers))
    with pytest.raises(RuntimeError):
        model.forward(images[:, :1], list(model.layers))
    with pytest.raises(NotFound, match="logits"):
        model.forward(images, ["nothing"])
    foreign = compile_edits([[Edit("nothing", 0, Op.ADD, 1.0)]], {"nothing": 1})
    with pytest.raises(NotFound, match="nothing"):
        model.forward(images, (), foreign)
    assert not any(module._forward_hooks for module in model.module.modules())


def test_threads_do_not_see_each_others_edits(model: TargetModel, images: Tensor) -> None:
    edits = compile_edits([[Edit(middle(model), 0, Op.ADD, 30.0)]], model.layer_sizes)
    expected = {edited: model.forward(images[:1], (), edits if edited else None).logits for edited in (False, True)}
    wrong: list[Tensor] = []

    def work(edited: bool) -> None:
        for _ in range(15):
            logits = model.forward(images[:1], (), edits if edited else None).logits
            if not torch.equal(logits, expected[edited]):
                wrong.append(logits)

    threads = [threading.Thread(target=work, args=(index % 2 == 0,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_weights_hash_follows_the_weights() -> None:
    def fresh() -> TargetModel:
        preprocessing = Preprocessing(64)
        return TargetModel("a", lively(small_vit(2)), labels="ab", modules=["norm"], preprocessing=preprocessing)

    first, second, third = fresh(), fresh(), fresh()
    next(third.module.parameters()).data.view(-1)[0] += 1e-3
    assert first.weights_sha256 == second.weights_sha256 != third.weights_sha256


def test_wrong_labels_and_modules_are_refused() -> None:
    def build(labels: str, modules: list[str], module: nn.Module | None = None) -> TargetModel:
        return TargetModel("a", module or small_vit(2), labels=labels, modules=modules, preprocessing=Preprocessing(64))

    with pytest.raises(InvalidInput, match="2 outputs per image, but there are 3 labels"):
        build("abc", [])
    with pytest.raises(NotFound, match=r"blocks\.9"):
        build("ab", ["blocks.9"])
    with pytest.raises(InvalidInput, match="not one tensor"):
        build("ab", ["body"], Keyed())


class Body(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images.mean(dim=(2, 3))[:, :2]}


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)["features"]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images.flatten(2).transpose(1, 2)).sum(dim=1)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(class_token=True), lambda x: x[:, 0]),
        (Layout(prefix_tokens=1), lambda x: x[:, 1:].mean(dim=1)),
        (Layout(), lambda x: x.mean(dim=1)),
    ],
)
def test_tokens_are_pooled_as_the_model_pools(layout: Layout, expected) -> None:  # type: ignore[no-untyped-def]
    model = TargetModel("a", Tokens(), labels="abc", modules=["tokens"], preprocessing=Preprocessing(4), layout=layout)
    images = torch.randn(2, 3, 4, 4)
    pooled = model.forward(images, ["tokens"]).activations["tokens"]
    torch.testing.assert_close(pooled, expected(images.flatten(2).transpose(1, 2)))


def test_edits_do_not_leak_through_a_layer_that_returns_its_input() -> None:
    model = TargetModel("a", Tokens(), labels="abc", modules=["tokens"], preprocessing=Preprocessing(4))
    images = torch.randn(2, 3, 4, 4)
    before = images.clone()
    model.forward(images, (), compile_edits([[Edit("tokens", 0, Op.SCALE, 5.0)]] * 2, model.layer_sizes))
    assert torch.equal(images, before)
