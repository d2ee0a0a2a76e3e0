"""The models that are measured: their configs, their weights, and the tokens they read."""

from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor
from transformers import JambaConfig

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.mamba import MambaMixer
from spellbound.jamba.model import JambaDecoderLayer

NANO = Path(__file__).resolve().parent.parent / "models" / "nano"

# nano is the bundled model; the others have random weights, the same in every process.
SHAPES: dict[str, dict[str, Any]] = {
    "bench": {
        "vocab_size": 8192,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "num_experts": 4,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "tie_word_embeddings": True,
    },
    # Little work a token, so that what grows with the context shows.
    "narrow": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_experts": 1,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "tie_word_embeddings": True,
    },
    # One Mamba layer of Jamba Mini: hidden 4096, 8192 channels, 16 states, rank 256; nearly nothing besides.
    "mini layer": {
        "vocab_size": 256,
        "hidden_size": 4096,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_experts": 1,
        "mamba_dt_rank": 256,
        "tie_word_embeddings": True,
    },
}


def config_of(name: str) -> JambaConfig:
    """Return the config called ``name``: nano, or a key of SHAPES."""
    if name == "nano":
        return JambaConfig.from_pretrained(NANO)
    return JambaConfig(max_position_embeddings=262144, **SHAPES[name])


def our_model(name: str, dtype: torch.dtype = torch.float32) -> JambaForCausalLM:
    """Return our model of that config, in evaluation mode."""
    if name == "nano":
        transformers.logging.disable_progress_bar()
        return cast(JambaForCausalLM, JambaForCausalLM.from_pretrained(NANO, dtype=dtype).eval())
    torch.manual_seed(0)
    return cast(JambaForCausalLM, JambaForCausalLM(config_of(name)).to(dtype).eval())


def our_mixer(name: str) -> MambaMixer:
    """Return the Mamba mixer of the first layer alone."""
    return cast(MambaMixer, cast(JambaDecoderLayer, our_model(name).model.layers[0]).mixer)


def token_ids(config: JambaConfig, *shape: int) -> Tensor:
    """Return random tokens, none of them special, the same in every process."""
    return torch.randint(3, config.vocab_size, shape, generator=torch.Generator().manual_seed(1))
