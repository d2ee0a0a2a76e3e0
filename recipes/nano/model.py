"""Nano's shape and how its weights begin: the same hybrid as Jamba Mini at a three-thousandth of its size."""

import math

import torch
from torch import nn
from transformers import JambaConfig

from recipes.nano.tokenizer import VOCABULARY


def config() -> JambaConfig:
    """Six layers, attention at i % 3 == 1, experts (4, top 2) at i % 2 == 1; 6.1 M parameters."""
    return JambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=6,
        attn_layer_period=3,
        attn_layer_offset=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_expand=2,
        mamba_dt_rank=12,
        max_position_embeddings=262_144,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Sets every weight from the seed, by parameter name: any class with Jamba's names begins alike."""
    draw = torch.Generator().manual_seed(seed)
    layers = sum(1 for name, _ in model.named_parameters() if name.endswith("input_layernorm.weight"))
    for name, weight in model.named_parameters():
        if name.endswith("A_log"):
            weight.copy_(torch.arange(1, weight.shape[1] + 1).log().expand_as(weight))
        elif name.endswith("dt_proj.bias"):
            weight.copy_(_step_bias(weight, draw))
        elif name.endswith("dt_proj.weight"):
            _uniform(weight, weight.shape[1] ** -0.5, draw)
        elif name.endswith("conv1d.weight"):
            _uniform(weight, weight.shape[-1] ** -0.5, draw)
        elif name.endswith("bias"):
            weight.zero_()
        elif weight.dim() == 1:  # norms and D
            weight.fill_(1.0)
        elif name.endswith(("embed_tokens.weight", "lm_head.weight", "router.weight")):
            weight.normal_(0.0, 0.02, generator=draw)
        else:
            # What adds to the residual stream begins smaller, so that depth does not swell it.
            adds = name.removesuffix(".weight").endswith(("out_proj", "o_proj", "down_proj"))
            depth = 2 * layers if adds else 1
            weight.normal_(0.0, (weight.shape[-1] * depth) ** -0.5, generator=draw)


def _step_bias(weight: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Bias b with softplus(b) log-uniform in [1e-3, 1e-1], as Mamba has it."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = torch.exp(torch.rand(weight.shape, generator=draw) * (high - low) + low)
    return step + torch.log(-torch.expm1(-step))


def _uniform(weight: torch.Tensor, bound: float, draw: torch.Generator) -> None:
    weight.uniform_(-bound, bound, generator=draw)


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms, biases, convolutions, A_log, D and dt_proj do not."""
    matrices = [
        weight
        for name, weight in model.named_parameters()
        if weight.dim() >= 2 and not name.endswith(("A_log", "conv1d.weight", "dt_proj.weight"))
    ]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
