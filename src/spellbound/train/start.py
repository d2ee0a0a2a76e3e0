"""Where a run's weights come from: a checkpoint folder, the hub, or a config and a seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import JambaConfig

from spellbound.errors import EnvironmentFault, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.storing import let_go_of_files
from spellbound.train.recipe import ModelSettings, Recipe

_CPU = torch.device("cpu")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer*"]
# What transformers and safetensors raise for files they cannot use: they have no error of their own.
_UNUSABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)


def base_folder(settings: ModelSettings) -> Path | None:
    """The folder of `model.base`, fetched from the hub if it is a name there; None without a base.

    Raises ModelError for a name that nobody knows, EnvironmentFault if the hub cannot be reached.
    """
    if not settings.base:
        return None
    folder = Path(settings.base)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(settings.base, allow_patterns=_WANTED))
    except (HFValidationError, HfHubHTTPError) as error:
        raise ModelError(
            f"model.base {settings.base!r} is neither a folder nor a model on the hub; give one of them"
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise EnvironmentFault(
            f"model.base {settings.base!r}: the hub cannot be reached; fetch it where it can, with:"
            f" hf download {settings.base}"
        ) from error


def weight_bytes(settings: ModelSettings) -> int:
    """Bytes of the files with the base's weights; 0 if there is none, or it is not here."""
    if not settings.base:
        return 0
    return sum(file.stat().st_size for file in Path(settings.base).glob("*.safetensors"))


def tokenizer_folder(settings: ModelSettings, base: Path | None) -> Path:
    """The folder whose tokenizer is used."""
    folder = settings.tokenizer or base
    if folder is None or not folder.is_dir():
        raise ModelError(f"model.tokenizer {str(folder)!r} is no folder; give one with tokenizer.json")
    return folder


def read_config(settings: ModelSettings, base: Path | None) -> JambaConfig:
    """The config of the model to be; ModelError if it is none of a Jamba."""
    file = settings.config if base is None else base / "config.json"
    if file is None:
        raise ModelError("model.config is missing; give a config.json")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("model_type") != "jamba":
            raise ValueError("model_type is not 'jamba'")
        return JambaConfig.from_dict(values)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file}: cannot be used: {error}; give the config.json of a Jamba") from error


def start_model(
    recipe: Recipe, base: Path | None, device: torch.device, *, whole: bool = True
) -> JambaForCausalLM:
    """Load or make the model in the recipe's number format.

    Straight onto the device if it is to be there as a `whole`; else whoever spreads it takes it from the CPU.
    """
    kind, place = number_format(recipe, device), device if whole else _CPU
    if base is None:
        return fresh_model(read_config(recipe.model, base), recipe.model.seed, kind, place)
    return load_weights(base, kind, place)


def load_weights(base: Path, kind: torch.dtype, device: torch.device) -> JambaForCausalLM:
    """Load a checkpoint folder; ModelError if a tensor lacks or is too many."""
    try:
        model: JambaForCausalLM
        model, info = JambaForCausalLM.from_pretrained(
            base, dtype=kind, device_map=None if device.type == "cpu" else device, output_loading_info=True
        )
    except _UNUSABLE as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{base}: the model cannot be loaded: {line}") from error
    odd = sorted(info["missing_keys"]) or sorted(info["unexpected_keys"])
    if odd:
        what = "lack" if info["missing_keys"] else "hold what config.json has no place for:"
        raise ModelError(
            f"{base}: the weights {what} {odd[0]!r} ({len(odd)} tensors); fetch the folder again"
        )
    let_go_of_files(model)
    return model


def number_format(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What the weights are kept as."""
    if recipe.model.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.model.dtype]
    return torch.bfloat16 if recipe.method == "lora" and device.type == "cuda" else torch.float32


def fresh_model(
    config: JambaConfig, seed: int, kind: torch.dtype = torch.float32, device: torch.device = _CPU
) -> JambaForCausalLM:
    """Random weights, the same for the same seed on the same kind of device, whatever was drawn before.

    On a GPU they are drawn there and in their number format: a large model would not fit beside it.
    """
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: JambaForCausalLM = JambaForCausalLM(config).to(kind)
            return model
    usual = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        with torch.random.fork_rng(), device:
            torch.manual_seed(seed)
            drawn: JambaForCausalLM = JambaForCausalLM(config).to(kind)  # what asks for float32 outright, too
            return drawn
    finally:
        torch.set_default_dtype(usual)


def base_of(model: JambaForCausalLM) -> str:
    """Hash of what a run stands on and its checkpoints do not hold: the config, the weights of an adapter's
    base."""
    values = model.config.to_dict()
    values.pop("transformers_version", None)
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {model.adapter_base}".encode()).hexdigest()[:32]


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Trainable matrices, which decay; norms, biases, convolutions, A_log, D and dt_proj, which do not."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    still = ("A_log", "conv1d.weight", "dt_proj.weight")
    matrices = [weight for name, weight in trained if weight.dim() >= 2 and not name.endswith(still)]
    chosen = {id(weight) for weight in matrices}
    others = [weight for _, weight in trained if id(weight) not in chosen]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
