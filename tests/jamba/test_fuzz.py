"""Drawn models, drawn ways of reading: every kernel gives what the plain float64 model gives, gradients
too."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.jamba import model as model_module
from tests.jamba.kernels import needs_library
from tests.jamba.models import ours, relative_error, tokens

configs = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([8, 24, 40]),
        "intermediate_size": st.integers(1, 70),
        "num_hidden_layers": st.integers(1, 3),
        "num_attention_heads": st.sampled_from([2, 4]),
        "num_key_value_heads": st.sampled_from([1, 2]),
        "num_experts": st.integers(1, 5),
        "num_experts_per_tok": st.just(1),
        "attn_layer_period": st.integers(1, 4),
        "attn_layer_offset": st.just(0),
        "expert_layer_period": st.integers(1, 2),
        "expert_layer_offset": st.just(0),
        "mamba_d_state": st.sampled_from([1, 3, 16, 17]),
        "mamba_d_conv": st.integers(1, 5),
        "mamba_dt_rank": st.integers(1, 9),
        "mamba_expand": st.integers(1, 3),
        "mamba_conv_bias": st.booleans(),
        "mamba_proj_bias": st.booleans(),
        "tie_word_embeddings": st.booleans(),
    }
)


@st.composite
def readings(draw: st.DrawFn) -> dict[str, Any]:
    """A config, and how a text is cut: into pieces, of which each is read in chunks; and into documents."""
    config = draw(configs)
    config["num_experts_per_tok"] = draw(st.integers(1, config["num_experts"]))
    return {
        "config": config,
        "rows": draw(st.integers(1, 2)),
        "pieces": draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)),
        "chunk": draw(st.integers(1, 50)),
        "seed": draw(st.integers(0, 2**20)),
    }


@needs_library
@pytest.mark.parametrize("kind", ["cpp", "torch"])
@settings(
    deadline=None, max_examples=25, derandomize=True
)  # float32 may route a near tie elsewhere than float64
@given(reading=readings())
def test_any_model_read_in_any_way(kind: str, reading: dict[str, Any]) -> None:
    seed, rows, pieces = reading["seed"], reading["rows"], reading["pieces"]
    time = sum(pieces)
    ids = tokens(rows, time, seed=seed)
    documents = (torch.rand(rows, time, generator=torch.Generator().manual_seed(seed)) < 0.1).cumsum(1)
    model = ours(seed, **reading["config"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPELLBOUND_KERNELS", "reference")
        truth = model.double()
        exact = truth(ids).logits.detach()
        truth(ids, labels=ids, document_ids=documents).loss.backward()
        gradients = {name: weight.grad for name, weight in truth.named_parameters()}
        model.zero_grad()
        model.float()
        patch.setenv("SPELLBOUND_KERNELS", kind)
        patch.setattr(model_module, "_CHUNK_ON_CPU", reading["chunk"])
        with torch.no_grad():
            state = model.new_state(rows)
            parts = [model(part, state=state).logits for part in ids.split(pieces, 1)]
        assert relative_error(torch.cat(parts, 1).double(), exact) < 1e-4
        model(ids, labels=ids, document_ids=documents).loss.backward()
    largest = max(float(g.abs().max()) for g in gradients.values() if g is not None)
    for name, weight in model.named_parameters():
        expected = gradients[name]
        assert (weight.grad is None) == (expected is None), name
        if weight.grad is not None and expected is not None:
            assert float((weight.grad.double() - expected).abs().max()) <= 1e-4 * largest, name
