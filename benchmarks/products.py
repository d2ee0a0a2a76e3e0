"""The matrix products of a Jamba: what any implementation has to compute, whatever it does besides.

Shapes as nn.Linear has them: ``rows`` tokens, ``inner`` inputs, ``columns`` outputs.
"""

from typing import NamedTuple

from transformers import JambaConfig


class Product(NamedTuple):
    """One (rows, inner) by (inner, columns) product with a weight of its own."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns

    @property
    def weights(self) -> int:
        """Numbers in the weight."""
        return self.inner * self.columns


def mamba_products(config: JambaConfig, rows: int) -> list[Product]:
    """Return the four products of one Mamba mixer."""
    hidden, rank, states = config.hidden_size, config.mamba_dt_rank, config.mamba_d_state
    channels = config.mamba_expand * hidden
    return [
        Product(rows, hidden, 2 * channels),
        Product(rows, channels, rank + 2 * states),
        Product(rows, rank, channels),
        Product(rows, channels, hidden),
    ]


def attention_products(config: JambaConfig, rows: int) -> list[Product]:
    """Return the projections of one attention layer; attention itself is no product with weights."""
    hidden = config.hidden_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    query, shared = head * config.num_attention_heads, head * config.num_key_value_heads
    return [
        Product(rows, hidden, query),
        Product(rows, hidden, shared),
        Product(rows, hidden, shared),
        Product(rows, query, hidden),
    ]


def feed_forward_products(config: JambaConfig, rows: int, experts: int) -> list[Product]:
    """Return gate and up in one product, and down; of each expert, the tokens spread evenly."""
    hidden, inner = config.hidden_size, config.intermediate_size
    if experts == 1:
        return [Product(rows, hidden, 2 * inner), Product(rows, inner, hidden)]
    products = [Product(rows, hidden, experts)]
    each, left = divmod(rows * config.num_experts_per_tok, experts)
    for expert in range(experts):
        share = each + (expert < left)
        if share:  # of a single token, only the experts it meets
            products += [Product(share, hidden, 2 * inner), Product(share, inner, hidden)]
    return products


def forward_products(config: JambaConfig, tokens: int, predicted: int) -> list[Product]:
    """Return every product that predicting after ``predicted`` of ``tokens`` needs.

    Behind the last mixer no token meets another, so the rest of that layer and the head see only those.
    """
    products = []
    kinds, experts = config.layers_block_type, config.layers_num_experts
    rows = [*[tokens] * (len(kinds) - 1), predicted]
    for kind, count, behind in zip(kinds, experts, rows, strict=True):
        mixer = attention_products if kind == "attention" else mamba_products
        products += mixer(config, tokens) + feed_forward_products(config, behind, count)
    return [*products, Product(predicted, config.hidden_size, config.vocab_size)]


def decode_bytes(config: JambaConfig, weight_bytes: int, context: int) -> int:
    """Return the bytes that one decoded token has to read: weights, keys and values, Mamba states.

    States are float32 and written back too; keys and values have the dtype of the weights.
    """
    weights = sum(product.weights for product in forward_products(config, 1, 1))
    kinds = config.layers_block_type
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys_values = kinds.count("attention") * 2 * context * head * config.num_key_value_heads
    states = kinds.count("mamba") * config.mamba_expand * config.hidden_size * config.mamba_d_state
    return int((weights + keys_values) * weight_bytes + 2 * 4 * states)
