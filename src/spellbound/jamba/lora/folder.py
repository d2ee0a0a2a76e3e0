"""Adapters in folders, in PEFT's format: adapter_config.json and adapter_model.safetensors."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from spellbound.errors import ModelError
from spellbound.files import replacing_folder
from spellbound.jamba.lora.attach import (
    adapter_parameters,
    adapters,
    base_fingerprint,
    detach_adapter,
    put_adapter,
    require_bare,
)
from spellbound.jamba.lora.layout import Factors, keys, to_peft
from spellbound.jamba.lora.matching import Fit
from spellbound.jamba.lora.plan import LoraPlan, plan_of
from spellbound.jamba.lora.sites import Site, find_sites
from spellbound.jamba.storing import storing

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "r": int,
    "lora_alpha": (int, float),
    "lora_dropout": (int, float),
    "rank_pattern": dict,
    "alpha_pattern": dict,
    "target_modules": (list, str),
    "target_parameters": list,
}
_STRONGEST = 1e30  # an alpha
_HEADER_AT = 8  # in a safetensors file, behind the header's length
_BASE = "spellbound_base"  # in the file's metadata: the fingerprint of the weights below


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """What a folder holds: settings, tensors, and which weights they were trained on, if it says so."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    base: str | None


def save_adapter(
    model: "JambaForCausalLM",
    folder: Path,
    *,
    base_name: str,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the adapters into a folder, each of its two files whole or not at all.

    PEFT loads them onto transformers' own model of the weights ``base_name``. ``tensors`` take the place of
    :func:`~spellbound.jamba.lora.adapter_parameters` where those are shards of the whole.

    Raises:
        ModelError: the model has no adapter.
        InputError: the folder cannot be written.
    """
    loras = adapters(model)
    if not loras:
        raise ModelError("the model has no adapter to save; attach one first")
    values = tensors if tensors is not None else adapter_parameters(model)
    sites = {site.name: site for site in find_sites(model)}
    factors = [
        Factors(
            site=sites[name],
            alpha=lora.alpha,
            A=values[f"{name}.lora_A"].detach().float().cpu(),
            B=values[f"{name}.lora_B"].detach().float().cpu(),
        )
        for name, lora in loras.items()
    ]
    dropout = max(lora.dropout for lora in loras.values())
    write_adapter(
        folder, factors, list(sites.values()), base_name=base_name, base=model.adapter_base, dropout=dropout
    )


def write_adapter(
    folder: Path,
    factors: list[Factors],
    sites: list[Site],
    *,
    base_name: str,
    base: str | None,
    dropout: float = 0.0,
) -> None:
    """Write factors in PEFT's format; ``sites`` are all those of the model, which tells how to name them."""
    outside = {each.site.module for each in factors if each.site.leaf == "down_proj"}
    stored: dict[str, Tensor] = {}
    for each in factors:
        inner = each.site.leaf == "gate_up_proj" and each.site.module in outside
        stored.update(zip(keys(each.site, inner=inner), to_peft(each), strict=True))
    config = _config(factors, sites, base_name, dropout)
    with replacing_folder(folder) as draft, storing():
        save_file(stored, draft / WEIGHTS, metadata={"format": "pt", **({_BASE: base} if base else {})})
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (draft / CONFIG).write_text(text, encoding="utf-8")


def load_adapter(
    model: "JambaForCausalLM", folder: Path | AdapterFile, *, trainable: bool = False
) -> LoraPlan:
    """Put a saved adapter on a model, of ours or of PEFT's making, all of it or nothing.

    It may have been read already. Adapters of single experts, as checkpoints of transformers 4 had them,
    become ours. ``trainable`` freezes the model and lets the adapter learn on; otherwise the adapter is
    frozen and the model left as it is.

    Raises:
        ModelError: no adapter, one that fits only in part, one that is more than low-rank products, or a
            model that has one already.
    """
    require_bare(model)
    sites = find_sites(model)
    adapter = folder if isinstance(folder, AdapterFile) else read_adapter(folder)
    fit = Fit.of(model, sites, adapter.config, adapter.tensors)
    if fit.faults:
        raise ModelError(f"{adapter.folder}: the adapter does not fit the model: {fit.faults[0]}")
    plan = plan_of(model, [(factors.site, factors.rank) for factors in fit.factors])
    base = adapter.base or base_fingerprint(model)
    dropout = float(adapter.config.get("lora_dropout") or 0.0)
    try:
        with torch.no_grad():
            for factors in fit.factors:
                lora = put_adapter(model, factors.site, factors.rank, factors.alpha, dropout)
                lora.lora_A.copy_(factors.A)
                lora.lora_B.copy_(factors.B)
    except BaseException:  # mostly for want of memory; half an adapter would change what the model says
        if adapters(model):
            detach_adapter(model)
        raise
    model.adapter_base = base
    if trainable:
        model.requires_grad_(False)
    for lora in adapters(model).values():
        lora.requires_grad_(trainable)
    return plan


def read_adapter(folder: Path) -> AdapterFile:
    """Read an adapter's files, whatever it is for. Raises ModelError if there is none."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing; give the folder of a PEFT adapter")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / CONFIG}: cannot be read: {error}; take the adapter again") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise ModelError(
            f"{folder / CONFIG}: peft_type is {kind!r}; only 'LORA' adapters can be used; give one"
        )
    try:
        # Not mapped: whoever writes over the file meanwhile would end this process.
        data = (folder / WEIGHTS).read_bytes()
        tensors = load_tensors(data)
        header = json.loads(data[_HEADER_AT : _HEADER_AT + int.from_bytes(data[:_HEADER_AT], "little")])
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{folder / WEIGHTS}: not a whole safetensors file: {error}; fetch or save it again"
        ) from error
    metadata = header.get("__metadata__") or {}
    if not tensors:
        raise ModelError(f"{folder / WEIGHTS}: holds no tensors; take the adapter again")
    _check_types(folder / CONFIG, config)
    return AdapterFile(folder=folder, config=config, tensors=tensors, base=metadata.get(_BASE))


def _check_types(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings that are not of the kind PEFT writes."""
    for name, kinds in _TYPES.items():
        value = config.get(name)
        if value is not None and not isinstance(value, kinds):
            raise ModelError(f"{file}: {name} is {value!r}; take the adapter again")
    ranks = [config.get("r", 8), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise ModelError(f"{file}: a rank is not a whole number from 1; take the adapter again")
    strengths = [config.get("lora_alpha", 8), *(config.get("alpha_pattern") or {}).values()]
    if not all(isinstance(each, int | float) and abs(each) < _STRONGEST for each in strengths):
        raise ModelError(f"{file}: an alpha is not a number; take the adapter again")
    if not 0 <= float(config.get("lora_dropout") or 0.0) < 1:
        raise ModelError(f"{file}: lora_dropout is {config['lora_dropout']}; give a share from 0 to below 1")
    patterns = [*(config.get("rank_pattern") or ()), *(config.get("alpha_pattern") or ())]
    expressions = {each: rf"(.*\.)?({each})$" for each in patterns}  # as PEFT puts them, and we
    if isinstance(config.get("target_modules"), str):
        expressions[config["target_modules"]] = config["target_modules"]
    for expression, used in expressions.items():
        try:
            re.compile(used)
        except re.error as error:
            raise ModelError(f"{file}: {expression!r} is no regular expression: {error}; mend it") from error


def _config(factors: list[Factors], sites: list[Site], base_name: str, dropout: float) -> dict[str, Any]:
    """Return the settings with which PEFT makes the same adapters."""
    modules = [each.site for each in factors if each.site.kind in ("linear", "embedding")]
    parameters = [each.site for each in factors if each.site.kind in ("router", "experts")]
    # The usual values are the parameters', for PEFT warns of exceptions for those, though it heeds them.
    usual = [each for each in factors if each.site in parameters] or factors
    rank, alpha = Counter((each.rank, each.alpha) for each in usual).most_common(1)[0][0]
    others = [each for each in factors if (each.rank, each.alpha) != (rank, alpha)]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "rank_pattern": {re.escape(_peft_name(each.site)): each.rank for each in others},
        "alpha_pattern": {re.escape(_peft_name(each.site)): _whole(each.alpha) for each in others},
        # PEFT refuses to drop anything beside parameters; what is loaded to be used drops nothing anyway.
        "lora_dropout": 0.0 if parameters else dropout,
        "bias": "none",
        "target_modules": _shortened(modules, sites),
        "target_parameters": _shortened(parameters, sites) or None,
    }


def _peft_name(site: Site) -> str:
    """What PEFT calls the weight: a router's by its parameter."""
    return f"{site.name}.weight" if site.kind == "router" else site.name


def _shortened(chosen: list[Site], sites: list[Site]) -> list[str]:
    """Name the chosen by their ends where those fit no other site, and in full where they do."""
    names = {_peft_name(site) for site in chosen}
    short = set()
    for site in chosen:
        end = _end(site)
        alike = {_peft_name(each) for each in sites if each.kind == site.kind and _end(each) == end}
        short |= {end} if alike <= names else alike & names
    return sorted(short)


def _end(site: Site) -> str:
    """The end of a name that tells it from those of another kind."""
    parts = {"router": 3, "experts": 3}.get(site.kind, 1)
    return ".".join(_peft_name(site).split(".")[-parts:])


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number
