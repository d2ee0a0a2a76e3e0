"""Small random Jambas, ours and transformers', with equal weights."""

import warnings
from typing import Any

import torch
from transformers import JambaConfig
from transformers import JambaForCausalLM as TransformersJamba

from spellbound.jamba import JambaForCausalLM

VOCABULARY = 97

# What varies between real Jambas: where attention and experts are, head sharing, tying, depth.
SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "dense only": {"num_experts": 1},
    "all experts": {"expert_layer_period": 1, "expert_layer_offset": 0},
    "one expert per token": {"num_experts_per_tok": 1},
    "attention first": {"attn_layer_period": 2, "attn_layer_offset": 0},
    "attention only": {"attn_layer_period": 1, "attn_layer_offset": 0},
    "no attention": {"attn_layer_period": 9, "attn_layer_offset": 8},
    "as Jamba Mini": {
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "num_hidden_layers": 8,
        "num_experts": 16,
    },
    "tied": {"tie_word_embeddings": True},
    "no head sharing": {"num_key_value_heads": 4},
    "one key/value head": {"num_key_value_heads": 1},
    "one layer": {"num_hidden_layers": 1},
    "other state, window, rank": {
        "mamba_d_state": 5,
        "mamba_d_conv": 3,
        "mamba_dt_rank": 7,
        "mamba_expand": 3,
    },
    "biases": {"mamba_proj_bias": True, "mamba_conv_bias": False},
}


def config(**changes: Any) -> JambaConfig:
    """A config small enough for a test, with weights large enough that mistakes show."""
    usual: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_experts": 4,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "initializer_range": 0.2,
        "use_cache": False,  # transformers cannot make a cache without an attention layer
    }
    return JambaConfig(**{**usual, **changes})


def ours(seed: int = 0, **changes: Any) -> JambaForCausalLM:
    """One of our models, in evaluation mode."""
    torch.manual_seed(seed)
    return JambaForCausalLM(config(**changes)).eval()


def twins(**changes: Any) -> tuple[JambaForCausalLM, Any]:
    """Ours and transformers' model with the same weights."""
    mine = ours(**changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = TransformersJamba(mine.config).eval()
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    """Random token ids, none of them special."""
    return torch.randint(3, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())
