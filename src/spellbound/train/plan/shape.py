"""What a plan has to know of a model: sizes and counts, from its config alone, without a single weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import JambaConfig

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.attention import Attention
from spellbound.jamba.lora import LoraSettings
from spellbound.jamba.lora.plan import plan_lora
from spellbound.jamba.model import JambaDecoderLayer
from spellbound.train.recipe import Recipe

OUTSIDE = -1
"""Number of what is in no layer: embedding, last norm and head."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One decoder layer, or what is in none."""

    attention: bool = False
    experts: int = 1
    """1 for a dense feed-forward."""
    trained: bool
    """Whether its own weights learn."""
    ranks: Mapping[str, int]
    """Of the adapters, by the last part of their weight's name."""
    mixer: int = 0
    """Numbers in the mixer and its norm."""
    feed_forward: int = 0
    """Numbers in the feed-forward and its norm."""
    outside: int = 0
    """Numbers in embedding, last norm and head, a shared one once."""
    adapter: int = 0
    """Numbers in the adapters."""

    @property
    def weights(self) -> int:
        """Numbers in the layer's own weights."""
        return self.mixer + self.feed_forward + self.outside

    @property
    def learns(self) -> int:
        """Numbers that have a gradient and moments."""
        return self.adapter + (self.weights if self.trained else 0)

    def keeps(self, name: str) -> bool:
        """Whether the gradient of a product's weight or adapter needs the product's input."""
        return self.trained or name in self.ranks


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model. H hidden, F inner, D channels, N states, R rank of the step size, K taps, V
    vocabulary."""

    hidden: int
    inner: int
    channels: int
    states: int
    step_rank: int
    taps: int
    heads: int
    queries: int
    """Numbers in all heads' queries of a token."""
    keys: int
    """Numbers in all heads' keys of a token; values are as many."""
    vocabulary: int
    experts_a_token: int
    mamba_bias: bool
    layers: tuple[Part, ...]
    outside: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        """All layers, and what is in none."""
        return (*self.layers, self.outside)


def shape_of(config: JambaConfig, recipe: Recipe) -> Shape:
    """Lay the model out on the meta device, where weights are shapes alone.

    Raises ModelError for adapter targets that match nothing, as training would.
    """
    with torch.device("meta"):
        model = JambaForCausalLM(config)
    ranks, adapters = _adapters(model, recipe)
    trained = recipe.method == "full"
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = tuple(
        _layer(
            cast(JambaDecoderLayer, layer),
            config.layers_num_experts[index],
            trained=trained,
            ranks=ranks.get(index, {}),
            adapter=adapters.get(index, 0),
        )
        for index, layer in enumerate(model.model.layers)
    )
    return Shape(
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        channels=config.mamba_expand * config.hidden_size,
        states=config.mamba_d_state,
        step_rank=config.mamba_dt_rank,
        taps=config.mamba_d_conv,
        heads=config.num_attention_heads,
        queries=config.num_attention_heads * head,
        keys=config.num_key_value_heads * head,
        vocabulary=config.vocab_size,
        experts_a_token=config.num_experts_per_tok,
        mamba_bias=config.mamba_proj_bias,
        layers=layers,
        outside=Part(
            trained=trained,
            ranks=ranks.get(OUTSIDE, {}),
            outside=_count(model) - sum(part.weights for part in layers),
            adapter=adapters.get(OUTSIDE, 0),
        ),
    )


def _layer(
    layer: JambaDecoderLayer, experts: int, *, trained: bool, ranks: Mapping[str, int], adapter: int
) -> Part:
    feed_forward = _count(layer.feed_forward) + _count(layer.pre_ff_layernorm)
    return Part(
        attention=isinstance(layer.mixer, Attention),
        experts=experts,
        trained=trained,
        ranks=ranks,
        mixer=_count(layer) - feed_forward,
        feed_forward=feed_forward,
        adapter=adapter,
    )


def _adapters(model: JambaForCausalLM, recipe: Recipe) -> tuple[dict[int, dict[str, int]], dict[int, int]]:
    """Ranks by the last part of a weight's name, and numbers of all adapters, of each layer."""
    ranks: dict[int, dict[str, int]] = {}
    numbers: dict[int, int] = {}
    if recipe.method != "lora":
        return ranks, numbers
    given = recipe.adapter
    settings = LoraSettings(rank=given.rank, alpha=given.alpha, dropout=given.dropout, targets=given.targets)
    for row in plan_lora(model, settings).rows:
        parts = row.name.split(".")
        place = int(parts[2]) if parts[1:2] == ["layers"] else OUTSIDE
        ranks.setdefault(place, {})[parts[-1]] = row.rank
        numbers[place] = numbers.get(place, 0) + row.parameters
    return ranks, numbers


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
