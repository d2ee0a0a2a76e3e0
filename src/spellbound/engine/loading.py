"""From a checkpoint folder to a model ready to write; what is wrong with it is found before it is loaded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from spellbound.errors import ModelError

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_GIB = 2**30
# What transformers and safetensors raise for files they cannot use: they have no error of their own.
_UNUSABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)


def load_model(
    folder: Path, *, device: str = "auto", dtype: str = "auto", adapter: Path | None = None
) -> JambaForCausalLM:
    """Load a Jamba checkpoint folder, with a PEFT adapter merged into its weights if one is given.

    `device`: auto (a GPU if there is one), cpu, cuda, cuda:1 … `dtype`: auto (float32 on the CPU, otherwise
    bfloat16), float32, bfloat16, float16. Raises ModelError for anything that cannot work.
    """
    from spellbound.jamba import JambaForCausalLM
    from spellbound.jamba.storing import let_go_of_files

    place = resolve_device(device)
    number = resolve_dtype(dtype, place)
    _check_config(folder)
    _check_memory(folder, place, number)
    try:
        model, info = JambaForCausalLM.from_pretrained(
            folder, dtype=number, device_map=None if place.type == "cpu" else place, output_loading_info=True
        )
    except (*_UNUSABLE, StrictDataclassError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {_one_line(error)}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors, the first is {missing[0]!r}")
    if info["unexpected_keys"]:
        extra = sorted(info["unexpected_keys"])
        raise ModelError(
            f"{folder}: the weights hold {len(extra)} tensors that config.json has no place for,"
            f" the first is {extra[0]!r}"
        )
    let_go_of_files(model)
    return model if adapter is None else _with_adapter(model, adapter)


def resolve_device(name: str) -> torch.device:
    """Return the device meant; refuse one that does not exist here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is unknown; give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"device {name!r} is not supported; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; give cpu"
        )
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number format meant."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is unknown; give auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint: those its index names, or the single one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{index}: weight_map names no files; take the index from the checkpoint again")
        files = sorted({folder / str(name) for name in shards.values()})
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{folder}: {file.name} is missing; give a folder with config.json and safetensors"
            )
    return files


def weight_count(folder: Path) -> int:
    """Return how many numbers the checkpoint holds, read from the headers alone."""
    total = 0
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file}: not a whole safetensors file: {_one_line(error)}; fetch it again"
            ) from error
    return total


def _check_config(folder: Path) -> None:
    """Refuse a folder that holds no Jamba."""
    if not folder.is_dir():
        raise ModelError(f"model folder {str(folder)!r} does not exist")
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder}: config.json is missing; give the folder of a Jamba checkpoint")
    kind = _read_json(config).get("model_type")
    if kind != "jamba":
        raise ModelError(f"{folder}: model_type is {kind!r}; Spellbound writes with 'jamba' models only")


def _check_memory(folder: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse weights that do not fit, before a byte of them is read."""
    needed = weight_count(folder) * dtype.itemsize
    free = psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    if needed > free:
        raise ModelError(
            f"{folder}: the weights take {needed / _GIB:.1f} GiB as {str(dtype).removeprefix('torch.')} and"
            f" {free / _GIB:.1f} GiB are free on {device}; use a smaller dtype, device or model"
        )


def _with_adapter(model: JambaForCausalLM, adapter: Path) -> JambaForCausalLM:
    """Merge an adapter into the weights; one that fits only in part is refused."""
    from spellbound.jamba.lora import load_adapter, merge_adapter

    load_adapter(model, adapter)
    merge_adapter(model)
    return model


def _read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object or say why not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: is not a JSON object")
    return content


def _one_line(error: BaseException) -> str:
    """Return the first line of a library's message, or its name if there is none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
