"""Does an adapter fit a model? Every tensor and every name in its settings is accounted for."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spellbound.jamba.lora.layout import (
    PREFIX,
    Factors,
    Projection,
    from_peft,
    join_experts,
    keys,
    part_of_expert,
    projections,
    single_keys,
)
from spellbound.jamba.lora.sites import Site

_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_ALL_LINEAR = "all-linear"
# Settings that change what is computed, or the weights below, in ways that are not ours.
_FOREIGN = (
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
)
_OWN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # these leave the base as it was


class Fit:
    """What of an adapter fits: ``factors`` by weight, the weight of each tensor, and every fault."""

    def __init__(self, model: nn.Module, sites: Sequence[Site], config: Mapping[str, Any]) -> None:
        self.factors: list[Factors] = []
        self.homes: dict[str, str] = {}
        self.faults: list[str] = []
        self._model, self._sites, self._config = model, sites, config
        self._single: set[str] = set()

    @classmethod
    def of(
        cls, model: nn.Module, sites: Sequence[Site], config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "Fit":
        """Find the place of every tensor among the sites of a model without adapters."""
        fit = cls(model, sites, config)
        rest = dict(tensors)
        fit._take_copies(rest)
        for site in sites:
            fit._take(site, rest)
        if rest:
            applied = f"{len(tensors) - len(rest)} of {len(tensors)} tensors apply"
            fit.faults.insert(0, f"{applied}; the first that does not is {min(rest)!r}")
        fit.faults += [*_foreign(config), *fit._missing(), *_not_finite(tensors)]
        return fit

    def _take(self, site: Site, rest: dict[str, Tensor]) -> None:
        """Move a site's tensors from the rest to where they belong."""
        if site.kind == "experts" and self._take_single(site, rest):
            return
        inner = site.kind == "experts" and site.leaf == "gate_up_proj" and _inner(site) in rest
        if site.kind == "experts" and not inner and site.leaf != self._outermost(site, rest):
            return
        key_A, key_B = keys(site, inner=inner)
        if key_A in rest and key_B in rest:
            A, B = rest.pop(key_A), rest.pop(key_B)
            self.homes.update({key_A: site.name, key_B: site.name})
            # PEFT calls the router by its parameter, the others by what holds it.
            rank, alpha = self._rank_and_alpha(_parameter(site) if site.kind == "router" else site.name)
            self._keep(site, from_peft(site, A, B, alpha), rank)

    def _keep(self, site: Site, factors: Factors | str, rank: int) -> None:
        if isinstance(factors, str):
            self.faults.append(f"{site.name}: {factors}")
        elif factors.rank != rank:
            self.faults.append(
                f"{site.name}: the rank is {factors.rank} in the tensors and {rank} in adapter_config.json"
            )
        else:
            self.factors.append(factors)

    def _take_single(self, site: Site, rest: dict[str, Tensor]) -> bool:
        """Join the adapters of single experts, as transformers 4 had them; say whether there were any."""
        parts = [part for key in rest if (part := part_of_expert(key)) and part[0] == site.module]
        there = [name for name in projections(site) if any(part[1] == name for part in parts)]
        joined = []
        for name in there:
            pairs = single_keys(site, name)
            lacking = [key for pair in pairs for key in pair if key not in rest]
            if lacking:
                self.faults.append(f"{site.name}: {len(lacking)} tensors lack, the first is {lacking[0]!r}")
                return True
            rank, alpha = self._rank_and_alpha(f"{site.module}.0.{name}")
            A, B = ([rest.pop(pair[place]) for pair in pairs] for place in (0, 1))
            joined.append(Projection(name=name, A=A, B=B, rank=rank, alpha=alpha))
            self.homes.update((key, site.name) for pair in pairs for key in pair)
        self._single |= set(there)
        if joined:
            self._keep(site, join_experts(site, joined), sum(each.rank for each in joined))
        return bool(joined)

    def _outermost(self, site: Site, rest: Mapping[str, Tensor]) -> str | None:
        """Say which parameter's the outer adapter of a module of experts is."""
        if _inner(site) in rest or _inner(site) in self.homes:
            return "down_proj"
        targets = self._config.get("target_parameters") or []
        named = [
            leaf
            for leaf in ("gate_up_proj", "down_proj")
            if any(_ends(target, f"{site.module}.{leaf}") for target in targets)
        ]
        return named[0] if len(named) == 1 else None

    def _take_copies(self, rest: dict[str, Tensor]) -> None:
        """Take the copies of whole embeddings that PEFT puts beside their adapters, if they are copies."""
        for key in [key for key in rest if key.endswith(_COPIES)]:
            name = key.removeprefix(PREFIX).replace(".base_layer", "")
            weight = dict(self._model.named_parameters()).get(name)
            copy = rest.pop(key)
            self.homes[key] = name
            if weight is None or weight.shape != copy.shape or not _same(weight, copy):
                self.faults.append(f"{key} is not the model's own {name}; the adapter is of another model")

    def _rank_and_alpha(self, name: str) -> tuple[int, float]:
        """Return the rank of an adapter, and alpha as ours mean it, divided by the rank."""
        rank = int(_by_pattern(self._config.get("rank_pattern"), name, self._config.get("r", 8)))
        alpha = float(_by_pattern(self._config.get("alpha_pattern"), name, self._config.get("lora_alpha", 8)))
        return rank, alpha * math.sqrt(rank) if self._config.get("use_rslora") else alpha

    def _missing(self) -> Iterator[str]:
        """Say what the settings name and the tensors lack."""
        there = set(self.homes.values())
        if self._config.get("layers_to_transform") is not None or self._config.get("exclude_modules"):
            return
        for target, places in self._targeted():
            lacking = [place for place in places if place not in there]
            if not places:
                yield f"adapter_config.json names {target!r}, which the model does not have"
            if lacking:
                yield f"adapter_config.json names {target!r}, but there are no tensors for {lacking[0]}"

    def _targeted(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each name in the settings with the weights that it means to PEFT, or to transformers 4."""
        modules = self._config.get("target_modules") or []
        named = re.fullmatch if isinstance(modules, str) else _ends
        for target in [modules] if isinstance(modules, str) else modules:
            if target != _ALL_LINEAR:
                yield target, [site.name for site in self._sites if self._means(site, target, named)]
        for target in self._config.get("target_parameters") or []:
            yield target, [site.name for site in self._sites if _ends(target, _parameter(site))]

    def _means(self, site: Site, target: str, named: Callable[[str, str], object]) -> bool:
        if site.kind in ("linear", "embedding"):
            return bool(named(target, site.name))
        return any(
            named(target, f"{site.module}.{name}") for name in projections(site) if name in self._single
        )


def _inner(site: Site) -> str:
    return f"{PREFIX}{site.module}.base_layer.lora_A.weight"


def _ends(target: str, name: str) -> bool:
    """Say whether a target is the end of a name, as PEFT sees it."""
    return name == target or name.endswith(f".{target}")


def _parameter(site: Site) -> str:
    """What the weight itself is called."""
    return site.name if site.kind == "experts" else f"{site.name}.weight"


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, usual: Any) -> Any:
    """Return the value for a name: that of the first pattern which fits its end, as PEFT finds it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return usual


def _foreign(config: Mapping[str, Any]) -> Iterator[str]:
    for name in _FOREIGN:
        if config.get(name):
            yield f"{name} is {config[name]!r}, which is more than a low-rank product; merge it with PEFT"
    if config.get("bias", "none") != "none":
        yield f"bias is {config['bias']!r}: biases were trained too; merge it with PEFT"
    if config.get("init_lora_weights", True) not in _OWN_STARTS:
        yield (
            f"init_lora_weights is {config['init_lora_weights']!r}, which changed the weights below;"
            " save it with PEFT's path_initial_model_for_weight_conversion"
        )


def _not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            yield f"{key} holds NaN or infinity; take an earlier checkpoint"


def _same(weight: Tensor, copy: Tensor) -> bool:
    """Say whether both are the same numbers, but for rounding."""
    narrow = torch.bfloat16
    return torch.equal(weight.detach().to("cpu", narrow), copy.to(narrow))
