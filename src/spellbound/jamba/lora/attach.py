"""Putting adapters on a model, taking them off, and merging them into its weights."""

import hashlib
import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from spellbound.errors import ModelError
from spellbound.jamba.feed_forward import Experts, Router
from spellbound.jamba.lora.layers import (
    Adapted,
    LoraEmbedding,
    LoraExperts,
    LoraLinear,
    LoraRouter,
    LowRank,
)
from spellbound.jamba.lora.plan import LoraPlan, plan_of
from spellbound.jamba.lora.settings import LoraSettings
from spellbound.jamba.lora.sites import Site, choose_sites

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM

_SAMPLES = 64  # numbers of each weight that enter the base's fingerprint


def attach_lora(model: "JambaForCausalLM", settings: LoraSettings, seed: int = 0) -> LoraPlan:
    """Freeze the model and put fresh adapters beside what the targets name; they change nothing yet.

    Each adapter's start depends on ``seed`` and its name alone, whatever else is adapted, on any device.

    Raises:
        ModelError: a target that matches nothing, or a model that has an adapter already.
    """
    require_bare(model)
    sites = choose_sites(model, settings.targets)
    plan = plan_of(model, [(site, settings.rank) for site in sites])
    model.adapter_base = base_fingerprint(model)
    model.requires_grad_(False)
    for site in sites:
        lora = put_adapter(model, site, settings.rank, settings.alpha, settings.dropout)
        _begin(lora, site, seed)
    return plan


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every adapter's two parameters, by the weight's name and ``.lora_A`` or ``.lora_B``."""
    return {
        f"{name}.{part}": cast(nn.Parameter, getattr(lora, part))
        for name, lora in adapters(model).items()
        for part in ("lora_A", "lora_B")
    }


def adapters(model: nn.Module) -> dict[str, LowRank]:
    """Return the adapters of a model, by the name of the weight they stand beside, in its order."""
    return {
        f"{name}.{part}".rstrip("."): lora
        for name, module in model.named_modules()
        if isinstance(module, Adapted)
        for part, lora in module.adapters().items()
    }


@torch.no_grad()
def merge_adapter(model: "JambaForCausalLM") -> None:
    """Add the adapters to the weights they stand beside and take them off; dtypes stay.

    The sum is made in float32 and rounded once. Raises ModelError for a model without an adapter, or with
    quantised weights.
    """
    wrapped = _require_adapted(model)
    for name, module in wrapped:
        for part in module.adapters():
            weight = getattr(module.base_layer, part or "weight")
            if not weight.is_floating_point():
                raise ModelError(
                    f"{name}: the weight is quantised ({weight.dtype}), nothing can be added to it;"
                    " load the model in bfloat16 to merge the adapter"
                )
    for _, module in wrapped:
        for part, lora in module.adapters().items():
            _merge(getattr(module.base_layer, part or "weight"), lora, isinstance(module, LoraEmbedding))
    detach_adapter(model)


def detach_adapter(model: "JambaForCausalLM") -> None:
    """Take the adapters off; the model computes what it did before. What was frozen stays frozen.

    Raises:
        ModelError: there is no adapter.
    """
    for name, module in _require_adapted(model):
        model.set_submodule(name, module.base_layer)
    model.adapter_base = None


def require_bare(model: nn.Module) -> None:
    """Refuse a model that has an adapter."""
    if any(isinstance(module, Adapted) for module in model.modules()):
        raise ModelError("the model has an adapter already; merge or detach it before another is put on")


def put_adapter(
    model: "JambaForCausalLM", site: Site, rank: int, alpha: float, dropout: float = 0.0
) -> LowRank:
    """Put an adapter that is zero in both factors beside one weight, on its device."""
    module = model.get_submodule(site.module)
    base = module.base_layer if isinstance(module, LoraExperts) else module
    lora = LowRank(site, rank, alpha, dropout, next(base.parameters()).device)
    lora.train(module.training)
    if isinstance(module, LoraExperts):
        setattr(module, site.leaf, lora)
        return lora
    wrapper: Adapted
    if isinstance(module, Experts):
        wrapper = LoraExperts(module)
        setattr(wrapper, site.leaf, lora)
    elif isinstance(module, Router):
        wrapper = LoraRouter(module, lora)
    elif isinstance(module, nn.Embedding):
        wrapper = LoraEmbedding(module, lora)
    else:
        wrapper = LoraLinear(cast(nn.Linear, module), lora)
    wrapper.training = module.training
    model.set_submodule(site.module, wrapper)
    return lora


def base_fingerprint(model: nn.Module) -> str | None:
    """Hash a sample of the weights as bfloat16, so that the number format they were loaded in does not
    matter; None where they are quantised or not here."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.is_floating_point() or parameter.is_meta:
            return None
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // _SAMPLES)].to(torch.bfloat16).float().cpu()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


def _begin(lora: LowRank, site: Site, seed: int) -> None:
    """Draw the factor that is not zero at first: B of an embedding from a normal distribution, A of all
    others uniformly, as PEFT and the reference code do."""
    chosen = lora.lora_B if site.kind == "embedding" else lora.lora_A
    if chosen.is_meta:
        return
    name = hashlib.sha256(f"{seed}:{site.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(name[:8], "little", signed=True))
    start = torch.empty(chosen.shape)
    if site.kind == "embedding":
        start.normal_(generator=generator)
    else:
        bound = 1 / math.sqrt(site.inputs)
        start.uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        chosen.copy_(start)


def _merge(weight: Tensor, lora: LowRank, turned: bool) -> None:
    """Add to the weight, one expert at a time."""
    if weight.dim() == 3:
        for expert, weight_OI in enumerate(weight):
            weight_OI.copy_(weight_OI.float() + lora.delta(expert).to(weight.device))
        return
    delta = lora.delta().to(weight.device)
    weight.copy_(weight.float() + (delta.T if turned else delta))


def _require_adapted(model: nn.Module) -> list[tuple[str, Adapted]]:
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, Adapted)]
    if not found:
        raise ModelError("the model has no adapter; load or attach one first")
    return found
