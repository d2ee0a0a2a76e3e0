"""Checkpoints: what a run needs to go on as if it had never stopped, whole or not at all.

One folder each, step-00000120, with what is trained, the optimizer's moments, and state.json. Rates, data
order and random numbers follow from the step, so they are not in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from spellbound.errors import InputError
from spellbound.files import creating_folder
from spellbound.jamba.storing import storing

FORMAT = 1
PARAMETERS, OPTIMIZER, STATE = "parameters.safetensors", "optimizer.safetensors", "state.json"
_PREFIX = "step-"
_MARK = "\t"  # between a parameter's name and that of a moment; in no name


@dataclass(frozen=True)
class Snapshot:
    """What is trained and its moments, on the CPU and in one piece."""

    parameters: dict[str, Tensor]
    moments: dict[str, Tensor]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is trained, by name; a shared weight once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def take(model: nn.Module, optimizer: torch.optim.Optimizer) -> Snapshot:
    """What is trained, in one piece on the CPU; what is there already is not copied, so write it at once.

    Where it is spread over processes, all of them have to call this.
    """
    parameters: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    for name, weight in trained(model).items():
        parameters[name] = _whole(weight.detach())
        for moment, value in optimizer.state.get(weight, {}).items():
            moments[f"{name}{_MARK}{moment}"] = _whole(value)
    return Snapshot(parameters, moments)


def put(snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer, place: Path) -> None:
    """Give a model and its optimizer what was taken of others; InputError if the names differ."""
    weights = trained(model)
    odd = sorted(weights.keys() ^ snapshot.parameters.keys())
    if odd:
        raise InputError(f"{place}: is of another model: {odd[0]!r} is in one of them only; start a new run")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(_spread(snapshot.parameters[name], weight))
    for key, value in snapshot.moments.items():
        name, _, moment = key.partition(_MARK)
        weight = weights[name]
        placed = value.clone() if value.dim() == 0 else _spread(value, weight)
        optimizer.state[weight][moment] = placed


def write(folder: Path, step: int, snapshot: Snapshot, state: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint, then remove all but the last few.

    Raises InputError if the disk is full, in which case those before it are as they were.
    """
    target = folder / f"{_PREFIX}{step:08d}"
    if target.is_dir():
        _remove(target)
    with creating_folder(target) as draft, storing():
        save_file(snapshot.parameters, draft / PARAMETERS)
        save_file(snapshot.moments, draft / OPTIMIZER)
        content = json.dumps({"format": FORMAT, "step": step, **state}, ensure_ascii=False, indent=1)
        (draft / STATE).write_text(content, encoding="utf-8")
    for old in found(folder)[:-keep]:
        _remove(old)
    return target


def found(folder: Path) -> list[Path]:
    """All checkpoints in a folder, the latest last."""
    return sorted(each for each in folder.glob(f"{_PREFIX}*") if (each / STATE).is_file())


def remove_remains(folder: Path) -> None:
    """Remove checkpoints whose removal a kill cut off."""
    whole = set(found(folder))
    for each in folder.glob(f"{_PREFIX}*"):
        if each not in whole:
            shutil.rmtree(each, ignore_errors=True)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's state.json; InputError if it cannot be used."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']} is not {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{checkpoint}: is damaged ({error}); remove it to go on from the one before"
        ) from error
    return state


def read_snapshot(checkpoint: Path) -> Snapshot:
    """A checkpoint's tensors; InputError if they cannot be read."""
    try:
        return Snapshot(load_file(checkpoint / PARAMETERS), load_file(checkpoint / OPTIMIZER))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: is damaged ({error}); remove it to go on from the one before"
        ) from error


def _remove(checkpoint: Path) -> None:
    # First what makes it count: if this is cut off, nobody takes what is left for a checkpoint.
    (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _whole(value: Tensor) -> Tensor:
    full = value.full_tensor() if isinstance(value, DTensor) else value
    return full.detach().cpu().contiguous()


def _spread(value: Tensor, like: Tensor) -> Tensor:
    """A copy of a whole tensor, placed as another is: this one may lie in a mapped file, or be somebody's."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device, copy=True), like.device_mesh, like.placements)
    return value.to(like.device, copy=True)
