"""Dictionaries on disk, in the layout of SAELens: ``cfg.json`` beside ``sae_weights.safetensors``.

Besides what SAELens writes today, the flat configuration of its older versions and that of ViT-Prisma (``config.json``)
are read. A key that could change what the dictionary computes and is not known here is refused: a threshold that is
dropped without a word gives features that mean something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from miclip.errors import InvalidInput
from miclip.files import write_file
from miclip.models.sae import Activation, Normalisation, SaeConfig
from miclip.models.weights import import_weights, read_safetensors, write_safetensors

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
_PRISMA_CONFIG = "config.json"
_PICKLED = (".pt", ".pth", ".pkl", ".gz", ".bin")

_ARCHITECTURES = {
    "standard": Activation.RELU,
    "relu": Activation.RELU,
    "vanilla": Activation.RELU,
    "topk": Activation.TOPK,
    "jumprelu": Activation.JUMPRELU,
}
_COMPUTED = {
    "architecture", "activation_fn", "activation_fn_str", "activation_fn_kwargs", "k", "d_in", "d_sae", "dtype",
    "device", "normalize_activations", "apply_b_dec_to_input", "reshape_activations", "finetuning_scaling_factor",
    "rescale_acts_by_decoder_norm", "cls_token_only", "use_patches_only", "expansion_factor", "hook_point_head_index",
    "hook_head_index", "is_transcoder",
}  # fmt: skip
"""Keys that say what is computed; each is used, or checked to ask for nothing unusual."""
_DESCRIBED = {
    "meta", "metadata", "model_name", "model_class_name", "hook_name", "hook_layer", "hook_point", "hook_point_layer",
    "layer_subtype", "model_from_pretrained_kwargs", "prepend_bos", "dataset_path", "dataset_name", "dataset",
    "dataset_trust_remote_code", "dataset_train_path", "dataset_val_path", "context_size", "seqpos_slice",
    "neuronpedia_id", "sae_lens_version", "sae_lens_training_version", "version", "image_size",
}  # fmt: skip
"""Keys that describe where a dictionary comes from."""
_TRAINING = (
    "lr", "l1", "l0", "lp_", "b_dec_init", "d_sae_init", "init_", "initialization", "decoder_", "dec_", "W_restart",
    "noise", "mse_loss", "n_", "num_", "train_", "training", "total_training", "tokens_per", "store_batch", "use_ghost",
    "use_cached", "cached_", "feature_", "dead_", "resample_", "log_to", "wandb", "checkpoint", "run_name", "resume",
    "save_path", "from_pretrained", "seed", "verbose", "act_store", "autocast", "compile", "eval", "adam", "optim",
    "max_grad", "scale_sparsity", "normalize_sae_decoder", "aux", "jumprelu_init", "jumprelu_bandwidth", "streaming",
    "is_dataset", "disable", "exclude_special", "warm", "shuffle", "output_path",
)  # fmt: skip
"""How keys begin that only training reads."""


def read_sae(folder: Path) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Read a dictionary that SAELens or ViT-Prisma wrote.

    Args:
        folder: Holds ``cfg.json`` and ``sae_weights.safetensors``, or ViT-Prisma's ``config.json`` and a weights file.

    Returns:
        What it computes, and its tensors; see ``SparseAutoencoder``. Foreign scalings are folded into the tensors.

    Raises:
        InvalidInput: a file is missing or broken, holds pickled code, or asks for something that is not supported.
    """
    values = _config_values(folder)
    tensors = {name: tensor.float() for name, tensor in _tensors(folder).items()}
    config = read_config(values)
    if "scaling_factor" in tensors and bool((tensors["scaling_factor"] == 1).all()):
        del tensors["scaling_factor"]  # older SAELens writes ones where it scales nothing
    if config.activation is not Activation.JUMPRELU:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "threshold" or bool(tensor.any())}
    if values.get("rescale_acts_by_decoder_norm"):
        tensors = _folded_norms(tensors)
    return config, tensors


def read_config(values: dict[str, Any]) -> SaeConfig:
    """Return what a SAELens or ViT-Prisma configuration computes; raises InvalidInput."""
    odd = [key for key in values if key not in _COMPUTED | _DESCRIBED and not key.startswith(_TRAINING)]
    if odd:
        names = ", ".join(sorted(odd)[:5])
        raise _bad(f"it has keys that are not known here ({names}), which may change what it computes")
    for key, harmless in _HARMLESS.items():
        if values.get(key) not in harmless:
            raise _bad(f"{key} is {values[key]!r}, which is not supported (only {harmless[-1]!r} is)")
    normalisation = values.get("normalize_activations") or Normalisation.NONE
    if normalisation not in set(Normalisation):
        allowed = ", ".join(Normalisation)
        raise _bad(f"normalize_activations is {normalisation!r}; fold its scale into the weights first ({allowed})")
    activation = _activation(values)
    return SaeConfig(
        activation,
        k=_k(values) if activation is Activation.TOPK else 0,
        normalisation=Normalisation(normalisation),
        bias_to_input=bool(values.get("apply_b_dec_to_input", True)),
        class_token_only=bool(values.get("cls_token_only", False)),
    )


_HARMLESS: dict[str, tuple[Any, ...]] = {
    "reshape_activations": (None, "none"),
    "finetuning_scaling_factor": (None, False),
    "use_patches_only": (None, False),
    "hook_point_head_index": (None,),
    "hook_head_index": (None,),
    "is_transcoder": (None, False),
}


def write_sae(folder: Path, config: SaeConfig, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a dictionary as SAELens reads it.

    Args:
        folder: Created if missing.
        config: What it computes.
        tensors: See ``SparseAutoencoder``; stored as float16 where that keeps their values finite and apart from 0.
        metadata: Where it comes from: JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS, tensors, half=True)
    features, width = tensors["W_dec"].shape
    values: dict[str, Any] = {
        "architecture": "standard" if config.activation is Activation.RELU else str(config.activation),
        "d_in": width, "d_sae": features, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": config.bias_to_input, "normalize_activations": str(config.normalisation),
        "reshape_activations": "none", "metadata": metadata,
    }  # fmt: skip
    if config.activation is Activation.TOPK:
        values["k"] = config.k
    if config.class_token_only:
        values["cls_token_only"] = True
    write_file(folder / CONFIG, json.dumps(values, indent=1, sort_keys=True) + "\n")


def _config_values(folder: Path) -> dict[str, Any]:
    found = [folder / name for name in (CONFIG, _PRISMA_CONFIG) if (folder / name).is_file()]
    if not found:
        raise _bad(f"there is no {CONFIG} (SAELens) or {_PRISMA_CONFIG} (ViT-Prisma) in {folder.name!r}")
    try:
        values = json.loads(found[0].read_bytes())
    except (ValueError, RecursionError) as error:
        raise _bad(f"{found[0].name} is not JSON") from error
    if not isinstance(values, dict):
        raise _bad(f"{found[0].name} is not a JSON object")
    return values


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The weights: safetensors, or a torch checkpoint that holds nothing but tensors."""
    safe = sorted(folder.glob("*.safetensors"))
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if len(safe) == 1:
        return read_safetensors(safe[0])
    pickled = [path for path in sorted(folder.iterdir()) if path.suffix in _PICKLED]
    if len(pickled) != 1:
        raise _bad(f"{folder.name!r} holds no single weights file; put {WEIGHTS} there")
    try:
        return import_weights(pickled[0])
    except InvalidInput as error:
        raise _bad(
            f"{pickled[0].name!r} is a pickled file, which is never run. Convert it where you trust it: load it with "
            f"the program that wrote it, then `safetensors.torch.save_file(sae.state_dict(), '{WEIGHTS}')`"
        ) from error


def _activation(values: dict[str, Any]) -> Activation:
    """What the codes' activation is, by today's ``architecture`` or the older ``activation_fn_str``."""
    named = values.get("architecture", "standard")
    function = values.get("activation_fn_str", values.get("activation_fn", "relu"))
    if named not in _ARCHITECTURES or function not in ("relu", "topk"):
        unknown = named if named not in _ARCHITECTURES else function
        raise _bad(f"its architecture {unknown!r} is not supported ({', '.join(_ARCHITECTURES)} are)")
    return Activation.TOPK if function == "topk" else _ARCHITECTURES[named]


def _k(values: dict[str, Any]) -> int:
    k = values.get("k", (values.get("activation_fn_kwargs") or {}).get("k"))
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise _bad(f"k is {k!r}; a whole number of at least 1 is needed")
    return k


def _folded_norms(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Codes that are scaled by their decoder row's length before TopK, as an equal dictionary that need not do so."""
    if not {"W_enc", "b_enc", "W_dec"} <= tensors.keys():
        raise _bad("W_enc, b_enc or W_dec is missing")
    norms = tensors["W_dec"].norm(dim=-1).clamp_min(1e-12)
    folded = {"W_enc": tensors["W_enc"] * norms, "b_enc": tensors["b_enc"] * norms,
              "W_dec": tensors["W_dec"] / norms[:, None]}  # fmt: skip
    return {**tensors, **folded}


def _bad(problem: str) -> InvalidInput:
    return InvalidInput(f"The dictionary cannot be read: {problem}.", field="sae")
