"""Dictionaries: what they compute, how they are read, and how their features are captured, attributed and edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from miclip.errors import InvalidInput, NotFound
from miclip.models.preprocessing import Preprocessing
from miclip.models.sae import Activation, Normalisation, SaeConfig, SparseAutoencoder
from miclip.models.sae_files import read_sae, write_sae
from miclip.models.target import Layout, TargetModel
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint

D, F, SIZE = 6, 10, 8


def weights(seed: int = 0, *, threshold: bool = False) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    made = {"W_enc": torch.randn(D, F, generator=rng), "b_enc": 0.1 * torch.randn(F, generator=rng),
            "W_dec": torch.randn(F, D, generator=rng), "b_dec": 0.1 * torch.randn(D, generator=rng)}  # fmt: skip
    return made | ({"threshold": torch.rand(F, generator=rng)} if threshold else {})


CONFIGS = {
    "topk": SaeConfig(Activation.TOPK, k=3),
    "topk, layer norm": SaeConfig(Activation.TOPK, k=3, normalisation=Normalisation.LAYER_NORM),
    "jumprelu": SaeConfig(Activation.JUMPRELU, bias_to_input=False),
    "relu, constant norm": SaeConfig(Activation.RELU, normalisation=Normalisation.CONSTANT_NORM),
}


def sae(config: SaeConfig, base: str = "conv") -> SparseAutoencoder:
    return SparseAutoencoder("d", base, config, weights(threshold=config.activation is Activation.JUMPRELU))


class Net(nn.Module):
    """A convolution and a block of tokens, so that both kinds of layers can have a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, D, 3, padding=1)
        self.tokens = nn.Linear(D, D)
        self.head = nn.Linear(D, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        return self.head(torch.tanh(self.tokens(x.flatten(2).transpose(1, 2))).mean(dim=1))


def target(*dictionaries: SparseAutoencoder) -> TargetModel:
    torch.manual_seed(1)
    return TargetModel("net", Net(), labels=list("abcd"), modules=["conv", "tokens"], dictionaries=dictionaries,
                       preprocessing=Preprocessing(SIZE), layout=Layout())  # fmt: skip


IMAGES = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", CONFIGS)
def test_codes_and_reconstruction_are_the_formula(name: str) -> None:
    config = CONFIGS[name]
    made, tensors = sae(config), weights(threshold=config.activation is Activation.JUMPRELU)
    x = torch.randn(7, D, generator=torch.Generator().manual_seed(3))
    scale, shift = torch.ones(7, 1), torch.zeros(7, 1)
    y = x
    if config.normalisation is Normalisation.LAYER_NORM:
        shift, scale = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        y = (x - shift) / (scale + 1e-5)
    if config.normalisation is Normalisation.CONSTANT_NORM:
        scale = x.norm(dim=1, keepdim=True) / D**0.5
        y = x / scale
    before = (y - tensors["b_dec"] * config.bias_to_input) @ tensors["W_enc"] + tensors["b_enc"]
    expected = before.relu()
    if config.activation is Activation.TOPK:
        lowest = before.sort(dim=1, descending=True).values[:, [config.k - 1]]
        expected = torch.where(before >= lowest, before.relu(), 0.0)
    if config.activation is Activation.JUMPRELU:
        expected = torch.where(before > tensors["threshold"], before, 0.0)
    codes = made.encode(x)
    torch.testing.assert_close(codes.values, expected)
    torch.testing.assert_close(made.decode(codes), (expected @ tensors["W_dec"] + tensors["b_dec"]) * scale + shift)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("base", ["conv", "tokens"])
def test_an_edit_of_a_feature_preserves_the_error_and_an_empty_one_changes_no_bit(name: str, base: str) -> None:
    made = sae(CONFIGS[name], base)
    model = target(made)
    plain = model.forward(IMAGES, [base, made.layer])
    nothing = compile_edits([[Edit(made.layer, 2, Op.SCALE, 1.0)]] * 5, model.layer_sizes)
    assert not nothing
    assert torch.equal(model.forward(IMAGES, edits=nothing).logits, plain.logits)
    edits = [[], [Edit(made.layer, 2, Op.SCALE, 3.0), Edit(made.layer, 5, Op.ADD, 0.5)], [], [], []]
    steered = model.forward(IMAGES, [base, made.layer], compile_edits(edits, model.layer_sizes))
    others = [0, 2, 3, 4]
    assert torch.equal(steered.logits[others], plain.logits[others])
    vectors = model.vectors(IMAGES[1:2], base)[0]
    codes = made.encode(vectors)
    change = torch.zeros_like(codes.values)
    change[:, 2], change[:, 5] = 2 * codes.values[:, 2], 0.5
    expected = vectors + (change @ made.W_dec) * codes.scale
    torch.testing.assert_close(steered.activations[base][1], expected.mean(dim=0))
    torch.testing.assert_close(steered.activations[made.layer][1], (codes.values + change).mean(dim=0))


def test_reconstruct_replaces_the_activation_by_what_the_dictionary_makes_of_it() -> None:
    made = sae(CONFIGS["topk, layer norm"])
    model = target(made)
    edits = compile_edits([[Edit(made.layer, 2, Op.SCALE, 1.0, reconstruct=True)]] + [[]] * 4, model.layer_sizes)
    found = model.forward(IMAGES, ["conv"], edits)
    vectors = model.vectors(IMAGES[:1], "conv")[0]
    torch.testing.assert_close(found.activations["conv"][0], made.decode(made.encode(vectors)).mean(dim=0))
    assert torch.equal(found.logits[1:], model.forward(IMAGES).logits[1:])


def test_edits_of_neurons_act_before_those_of_features_of_their_layer() -> None:
    made = sae(CONFIGS["topk"])
    model = target(made)
    both = [Edit(made.layer, 1, Op.CLAMP, 2.0), Edit("conv", 3, Op.ADD, 1.0)]
    found = model.forward(IMAGES[:1], ["conv"], compile_edits([both], model.layer_sizes))
    vectors = model.vectors(IMAGES[:1], "conv")[0]
    vectors[:, 3] += 1.0
    codes = made.encode(vectors)
    change = torch.zeros_like(codes.values)
    change[:, 1] = 2.0 - codes.values[:, 1]
    torch.testing.assert_close(found.activations["conv"][0], (vectors + change @ made.W_dec).mean(dim=0))


def test_the_class_token_alone_is_read_and_written_where_the_dictionary_says_so() -> None:
    made = sae(SaeConfig(Activation.RELU, class_token_only=True), "tokens")
    model = target(made)
    edits = compile_edits([[Edit(made.layer, 4, Op.CLAMP, 7.0)]], model.layer_sizes)
    found = model.forward(IMAGES[:1], [made.layer, "tokens"], edits)
    vectors = model.vectors(IMAGES[:1], "tokens")[0]
    codes = made.encode(vectors[:1])
    assert found.activations[made.layer][0, 4] == 7.0
    vectors[0] += (7.0 - codes.values[0, 4]) * made.W_dec[4]
    torch.testing.assert_close(found.activations["tokens"][0], vectors.mean(dim=0))


@pytest.mark.parametrize("base", ["conv", "tokens"])
def test_attributions_of_features_are_the_derivative_of_the_margin(base: str) -> None:
    made = sae(CONFIGS["topk, layer norm"], base)
    model = target(made)
    logits, codes, attributions = model.attribute(IMAGES, [base, made.layer])
    torch.testing.assert_close(codes[made.layer], model.forward(IMAGES, [made.layer]).activations[made.layer])
    best, step = logits.argmax(dim=1), 1e-3

    def margin(feature: int, gain: float) -> Tensor:
        edits = compile_edits([[Edit(made.layer, feature, Op.SCALE, gain)]] * 5, model.layer_sizes)
        found = model.forward(IMAGES, edits=edits).logits
        return found.gather(1, best[:, None])[:, 0] - found.mean(dim=1)

    for feature in range(F):
        slope = (margin(feature, 1 + step) - margin(feature, 1 - step)) / (2 * step)
        torch.testing.assert_close(attributions[made.layer][:, feature], slope, atol=2e-3, rtol=2e-2)


def test_a_dictionary_must_fit_a_layer_of_the_model() -> None:
    with pytest.raises(NotFound, match="it has conv, tokens"):
        target(sae(CONFIGS["topk"], "logits"))
    narrow = {name: tensor[..., :4] if name.endswith("dec") else tensor for name, tensor in weights().items()}
    narrow["W_enc"] = narrow["W_enc"][:4]
    with pytest.raises(InvalidInput, match="reads 4 units; 'conv' has 6"):
        target(SparseAutoencoder("d", "conv", CONFIGS["topk"], narrow))


def test_reconstruct_is_part_of_the_fingerprint_and_refused_for_neurons() -> None:
    model = target(sae(CONFIGS["topk"]))
    plain, replaced = (Edit("conv/dictionaries/d", 1, Op.SCALE, 2.0, one) for one in (False, True))
    assert fingerprint([plain]) != fingerprint([replaced])
    from miclip.steering.edits import validate_edits

    with pytest.raises(InvalidInput, match=r"edits\[0\]\.reconstruct"):
        validate_edits([Edit("conv", 1, Op.SCALE, 2.0, reconstruct=True)], model.layer_sizes)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    tensors = weights(threshold=config.activation is Activation.JUMPRELU)
    halves = {key: tensor.half().float() for key, tensor in tensors.items()}
    write_sae(tmp_path / "d", config, halves, {"model_name": "net"})
    found, read = read_sae(tmp_path / "d")
    assert found == config
    assert read.keys() == halves.keys()
    assert all(torch.equal(read[key], halves[key]) for key in halves)


def foreign(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], *, file: str = "cfg.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


SAELENS = {"architecture": "topk", "k": 3, "d_in": D, "d_sae": F, "dtype": "float32", "device": "cuda",
           "apply_b_dec_to_input": True, "normalize_activations": "layer_norm", "reshape_activations": "none",
           "metadata": {"hook_name": "blocks.9"}}  # fmt: skip


def test_saelens_of_today_and_of_before_and_vit_prisma_are_read(tmp_path: Path) -> None:
    today, _ = read_sae(foreign(tmp_path / "today", SAELENS, weights()))
    assert today == SaeConfig(Activation.TOPK, k=3, normalisation=Normalisation.LAYER_NORM)
    before = {"architecture": "jumprelu", "activation_fn_str": "relu", "d_in": D, "d_sae": F, "hook_name": "x",
              "hook_layer": 3, "hook_head_index": None, "normalize_activations": "none", "prepend_bos": True,
              "finetuning_scaling_factor": False, "apply_b_dec_to_input": False, "l1_coefficient": 1.0, "lr": 1e-3,
              "sae_lens_training_version": "3.0"}  # fmt: skip
    config, _ = read_sae(foreign(tmp_path / "before", before, weights(threshold=True)))
    assert config == SaeConfig(Activation.JUMPRELU, bias_to_input=False)
    prisma = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "cls_token_only": True, "d_in": D,
              "normalize_activations": "layer_norm", "expansion_factor": 16, "b_dec_init_method": "geometric_median",
              "hook_point_layer": 9, "model_name": "open-clip", "context_size": 50, "dataset_name": "imagenet1k",
              "use_ghost_grads": True, "n_checkpoints": 10, "initialization_method": "independent"}  # fmt: skip
    config, _ = read_sae(foreign(tmp_path / "prisma", prisma, weights(), file="config.json"))
    assert config == SaeConfig(Activation.TOPK, k=4, normalisation=Normalisation.LAYER_NORM, class_token_only=True)


def test_codes_rescaled_by_decoder_norms_are_folded_into_an_equal_dictionary(tmp_path: Path) -> None:
    tensors = weights()
    folder = foreign(tmp_path / "d", {**SAELENS, "normalize_activations": "none", "rescale_acts_by_decoder_norm": True},
                     tensors)  # fmt: skip
    made = SparseAutoencoder("d", "conv", *read_sae(folder))
    x = torch.randn(9, D, generator=torch.Generator().manual_seed(4))
    norms = tensors["W_dec"].norm(dim=1)
    before = ((x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]) * norms
    best = before.topk(3, dim=1)
    codes = torch.zeros(9, F).scatter(1, best.indices, best.values.relu())
    expected = codes / norms @ tensors["W_dec"] + tensors["b_dec"]
    torch.testing.assert_close(made.decode(made.encode(x)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jump_start": 2}, "jump_start"),
        ({"architecture": "gated"}, "gated"),
        ({"normalize_activations": "expected_average_only_in"}, "fold its scale"),
        ({"reshape_activations": "hook_z"}, "reshape_activations"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
        ({"k": 0}, "k is 0"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_sae(foreign(tmp_path / "d", SAELENS | change, weights()))


def test_tensors_that_are_missing_unknown_or_misshapen_are_refused() -> None:
    config, tensors = CONFIGS["topk"], weights()
    for broken, message in (
        ({name: one for name, one in tensors.items() if name != "b_enc"}, "b_enc"),
        (tensors | {"scaling": torch.ones(F)}, "scaling"),
        (tensors | {"threshold": torch.ones(F)}, "threshold"),
        (tensors | {"b_dec": torch.zeros(D + 1)}, "b_dec has shape"),
        (tensors | {"b_enc": torch.full((F,), torch.nan)}, "not finite"),
    ):
        with pytest.raises(InvalidInput, match=message):
            SparseAutoencoder("d", "conv", config, broken)
    with pytest.raises(InvalidInput, match="k is 11; 1 to 10"):
        SparseAutoencoder("d", "conv", SaeConfig(Activation.TOPK, k=11), tensors)


class Hostile:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("/tmp/miclip-was-run"),)


def test_a_pickled_file_is_never_run_and_the_message_says_how_to_convert(tmp_path: Path) -> None:
    folder = tmp_path / "legacy"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"activation_fn_str": "relu", "d_in": D}))
    torch.save({"cfg": Hostile(), "state_dict": weights()}, folder / "n_images_1.pt")
    with pytest.raises(InvalidInput, match=r"never run.*safetensors\.torch\.save_file"):
        read_sae(folder)
    assert not Path("/tmp/miclip-was-run").exists()
