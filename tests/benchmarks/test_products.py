"""The floor has the products of the real model: with more it were no floor, with fewer it were too low."""

from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import JambaConfig

from benchmarks import floors
from benchmarks.configs import SHAPES, config_of, our_mixer, token_ids
from benchmarks.products import Product, decode_bytes, forward_products, mamba_products
from spellbound.jamba import JambaForCausalLM

PRODUCTS = ("aten.mm", "aten.addmm", "aten._grouped_mm")
SMALL = JambaConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=4,
    num_experts_per_tok=2,
    attn_layer_period=4,
    attn_layer_offset=2,
    pad_token_id=0,
    tie_word_embeddings=True,
)


def weight_shapes(model: torch.nn.Module) -> Counter[tuple[int, int]]:
    """(inner, columns) of each weight that is multiplied; gate and up of a dense MLP as the one they make."""
    shapes: Counter[tuple[int, int]] = Counter()
    for name, weight in model.named_parameters():
        if weight.dim() == 1 or name.endswith(("A_log", "conv1d.weight", "up_proj.weight")):
            continue
        columns, inner = weight.shape[-2:]
        if name.endswith("gate_proj.weight"):
            columns *= 2
        shapes[inner, columns] += len(weight) if weight.dim() == 3 and "experts" in name else 1
    return shapes


def product_shapes(products: list[Product]) -> Counter[tuple[int, int]]:
    return Counter((product.inner, product.columns) for product in products)


@pytest.mark.parametrize("name", ["nano", *SHAPES])
def test_each_weight_of_the_model_is_in_one_product(name: str) -> None:
    config = config_of(name)
    with torch.device("meta"):
        model = JambaForCausalLM(config)
    assert config.tie_word_embeddings  # the embedding's weight is the head's
    assert product_shapes(forward_products(config, 4096, 4096)) == weight_shapes(model)


def counted(counter: FlopCounterMode) -> int:
    found = counter.get_flop_counts()["Global"]
    return sum(flops for operation, flops in found.items() if str(operation).startswith(PRODUCTS))


@pytest.mark.parametrize(("tokens", "predicted"), [(7, 1), (40, 1), (40, 40)])
def test_a_forward_computes_as_much_as_its_products(tokens: int, predicted: int) -> None:
    torch.manual_seed(0)
    model = JambaForCausalLM(SMALL).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(token_ids(SMALL, 1, tokens), logits_to_keep=predicted)
    assert counted(counter) == sum(product.flops for product in forward_products(SMALL, tokens, predicted))


def test_a_training_step_computes_three_times_its_products() -> None:
    torch.manual_seed(0)
    model = JambaForCausalLM(SMALL).train()
    ids = token_ids(SMALL, 2, 20)
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids).loss.backward()
    assert counted(counter) == 3 * sum(product.flops for product in forward_products(SMALL, 40, 40))


def test_the_mixer_alone_has_four() -> None:
    mixer = our_mixer("narrow")
    assert product_shapes(mamba_products(config_of("narrow"), 5)) == weight_shapes(mixer)


def test_a_single_token_meets_its_experts_only() -> None:
    every, one = (forward_products(SMALL, tokens, tokens) for tokens in (64, 1))
    experts = SMALL.layers_num_experts.count(4)
    assert len(every) - len(one) == 2 * 2 * experts  # two experts fewer, two products each


def test_bytes_of_a_token_are_weights_keys_values_and_states() -> None:
    weights = sum(product.weights for product in forward_products(SMALL, 1, 1))
    keys_values, states = 2 * 100 * 2 * 8, 3 * 64 * 16  # one attention layer, three of Mamba
    assert decode_bytes(SMALL, 4, 100) == 4 * (weights + keys_values) + 2 * 4 * states
    assert decode_bytes(SMALL, 2, 0) == 2 * weights + 2 * 4 * states


def test_the_floors_run() -> None:
    products = forward_products(SMALL, 6, 1)
    floors.products_work(products)()
    floors.products_work(products, backward=True)()
    floors.vectors_work(forward_products(SMALL, 1, 1))()
