"""Adapters that do something, and what they should do: the product with the weights changed outright."""

import torch
from torch import Tensor
from torch.func import functional_call

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import LoraSettings, adapter_parameters, attach_lora
from spellbound.jamba.lora.attach import adapters

LINEAR = ("in_proj", "x_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = ("gate_proj", "up_proj", "down_proj")
EVERYTHING = (*LINEAR, *EXPERTS, "dt_proj", "router", "embed_tokens", "lm_head")


def settings(*targets: str, rank: int = 3, alpha: float = 6.0, dropout: float = 0.0) -> LoraSettings:
    return LoraSettings(rank=rank, alpha=alpha, dropout=dropout, targets=targets or EVERYTHING)


def randomised(model: JambaForCausalLM, seed: int = 0, size: float = 0.2) -> None:
    """Give both factors of every adapter values, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)


def adapted(model: JambaForCausalLM, *targets: str, rank: int = 3, seed: int = 0) -> JambaForCausalLM:
    """Put an adapter on that does something."""
    attach_lora(model, settings(*targets, rank=rank), seed)
    randomised(model, seed)
    return model


def by_hand(
    bare: JambaForCausalLM, model: JambaForCausalLM, ids_BT: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return logits of ``bare`` with each weight W + scale B A outright, and the factors in the graph."""
    factors = {
        name: value.detach().clone().requires_grad_() for name, value in adapter_parameters(model).items()
    }
    weights = dict(bare.named_parameters())
    changed = {}
    for name, lora in adapters(model).items():
        A, B = factors[f"{name}.lora_A"], factors[f"{name}.lora_B"]
        delta = B @ A * (lora.alpha / lora.rank)
        key = name if name in weights else f"{name}.weight"
        changed[key] = weights[key].detach() + (delta.T if "embed" in name else delta)
    out = functional_call(bare, changed, (ids_BT,), tie_weights=False)
    return out.logits, factors
