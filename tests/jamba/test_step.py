"""One token through a layer in two calls: what the modules compute, for every kind of layer, and only when
allowed."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import Tensor

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba import model as model_module
from spellbound.jamba.ops.cpp.library import best_instruction_set
from spellbound.jamba.ops.cpp.step import (
    AttentionMemory,
    AttentionWeights,
    FeedForwardWeights,
    MambaMemory,
    MambaWeights,
    Memory,
    Mixer,
    ModelWeights,
    TokenStep,
    linear_row_cpp,
)
from spellbound.jamba.state import MambaState
from spellbound.jamba.step import one_token
from tests.jamba.kernels import AVAILABLE, needs_library
from tests.jamba.models import SHAPES, ours, relative_error, tokens

pytestmark = [
    needs_library,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT's own
]
each_set = pytest.mark.parametrize("name", AVAILABLE)


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every forward so far, whether it went the fused way."""
    calls: list[bool] = []

    def watch(*arguments: Any) -> Tensor | None:
        result = one_token(*arguments)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(model_module, "one_token", watch)
    return calls


def decode(model: JambaForCausalLM, ids: Tensor, prompt: int = 5) -> Tensor:
    """Logits of every token behind the prompt, read one by one."""
    with torch.inference_mode():
        state = model.new_state(len(ids))
        model(ids[:, :prompt], state=state)
        return torch.cat(
            [model(ids[:, t : t + 1], state=state).logits for t in range(prompt, ids.shape[1])], 1
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_token_by_token_equals_all_at_once(shape: dict[str, Any], fused_calls: list[bool]) -> None:
    model, ids = ours(**shape), tokens(1, 14)
    stepwise = decode(model, ids)
    assert fused_calls[-1]
    with torch.inference_mode():
        assert relative_error(stepwise, model(ids).logits[:, 5:]) < 1e-5


def test_half_precision_is_no_further_from_the_truth_than_the_modules(
    monkeypatch: pytest.MonkeyPatch, fused_calls: list[bool]
) -> None:
    model, ids = ours(num_hidden_layers=8), tokens(1, 40)
    exact = decode(model, ids)
    half = model.to(torch.bfloat16)
    fused = decode(half, ids)
    assert fused_calls[-1]
    monkeypatch.setattr(model_module, "one_token", lambda *_: None)
    by_modules = decode(half, ids)
    error, usual = ((each.float() - exact).square().mean().sqrt() for each in (fused, by_modules))
    assert error < 1.2 * usual


@pytest.mark.parametrize(
    "hinder",
    [
        "gradient",
        "two rows",
        "hook",
        "adapter",
        "double",
        "another kernel",
        "wider state",
        "own forward",
        "buffer",
    ],
)
def test_whatever_changes_the_modules_goes_through_the_modules(
    hinder: str, fused_calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = ours(), tokens(1, 9)
    plain = decode(model, ids)
    assert fused_calls.pop()
    layer: Any = model.model.layers[-1]
    if hinder == "gradient":
        state = model.new_state(1)
        model(ids[:, :5], state=state)
        result = torch.cat([model(ids[:, t : t + 1], state=state).logits for t in range(5, 9)], 1).detach()
    else:
        if hinder == "two rows":
            ids = ids.expand(2, -1)
        elif hinder == "hook":
            layer.feed_forward.router.register_forward_pre_hook(lambda *_: None)
        elif hinder == "adapter":
            inject_adapter_in_model(LoraConfig(target_modules=["in_proj", "q_proj"]), model)
        elif hinder == "double":
            model.double()
        elif hinder == "another kernel":
            monkeypatch.setenv("SPELLBOUND_KERNELS", "torch")
        elif hinder == "own forward":
            norm = layer.input_layernorm
            monkeypatch.setattr(norm, "forward", type(norm).forward.__get__(norm))
        elif hinder == "wider state":
            original = model.new_state
            monkeypatch.setattr(model, "new_state", lambda rows: original(rows, torch.float64))
        elif hinder == "buffer":
            weight = layer.input_layernorm.weight
            layer.input_layernorm.weight = torch.nn.Parameter(weight.repeat(2)[::2])
        result = decode(model, ids)
    assert not fused_calls[-1]
    assert relative_error(result[:1].float(), plain) < 1e-5


def test_weights_that_move_or_change_are_noticed(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 9)
    decode(model, ids)
    other = ours(seed=3)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)  # in place
    assert torch.equal(decode(model, ids), decode(other, ids))
    model.load_state_dict(ours(seed=4).state_dict(), assign=True)  # other parameters
    assert torch.equal(decode(model, ids), decode(ours(seed=4), ids))
    for parameter, new in zip(model.parameters(), other.parameters(), strict=True):
        parameter.data = new.data.clone()  # the same parameters, elsewhere
    assert torch.equal(decode(model, ids), decode(other, ids))
    fresh, donor = ours(seed=3), ours(seed=5)
    firsts: list[Any] = [each.model.layers[0] for each in (model, fresh, donor)]
    firsts[1].mamba.load_state_dict(firsts[2].mamba.state_dict())
    firsts[0].mamba = firsts[2].mamba  # another module
    assert torch.equal(decode(model, ids), decode(fresh, ids))
    assert fused_calls[-1]


def test_a_merged_adapter_is_fused_again(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 9)
    config = LoraConfig(target_modules=["in_proj", "q_proj", "up_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    expected = decode(model, ids)
    assert not fused_calls[-1]
    merged = adapted.merge_and_unload()
    assert relative_error(decode(merged, ids), expected) < 1e-5
    assert fused_calls[-1]


def test_a_step_leaves_the_old_state_as_it_was() -> None:
    model, ids = ours(), tokens(1, 6)
    with torch.inference_mode():
        state = model.new_state(1)
        model(ids, state=state)
        before = {name: tensor.clone() for name, tensor in state._named_tensors()}
        copy = state.clone()
        model(ids[:, :1], state=state)
        assert all(torch.equal(tensor, before[name]) for name, tensor in copy._named_tensors())
        assert any(isinstance(layer, MambaState) for layer in copy.layers)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


@each_set
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 16), (33, 70), (300, 129), (70, 1000)])
def test_a_row_times_a_matrix(name: str, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    weight, bias, x = (
        random(*shape).to(dtype),
        random(shape[0], seed=1).to(dtype),
        random(1, 1, shape[1], seed=2),
    )
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    assert relative_error(linear_row_cpp(x, weight, bias, name).double(), exact) < 1e-5
    exact = torch.nn.functional.linear(x.double(), weight.double())
    assert relative_error(linear_row_cpp(x, weight, None, name).double(), exact) < 1e-5


@each_set
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_instruction_set_and_any_threads_agree(name: str, threads: int) -> None:
    """Sizes large enough for several threads, of which none is a multiple of the lanes."""
    hidden, channels, states, rank, inner = 150, 301, 17, 11, 203
    mamba = MambaWeights(
        random(hidden),
        random(2 * channels, hidden),
        random(2 * channels),
        random(channels, 1, 4),
        random(channels),
        random(rank + 2 * states, channels),
        random(rank),
        random(states),
        random(states),
        random(channels, rank),
        random(channels),
        random(channels, states),
        random(channels),
        random(hidden, channels),
        random(hidden),
    )
    attention = AttentionWeights(
        random(hidden), random(90, hidden), random(30, hidden), random(30, hidden), random(hidden, 90), 15
    )
    experts = (random(3, hidden), random(3, 2 * inner, hidden), None, random(3, hidden, inner))
    dense = (None, random(inner, hidden), random(inner, hidden), random(hidden, inner))
    layers: list[tuple[Mixer, FeedForwardWeights]] = [
        (mamba, FeedForwardWeights(random(hidden), *experts, 2)),
        (attention, FeedForwardWeights(random(hidden), *dense, 1)),
    ]
    weights = ModelWeights(random(50, hidden, seed=7), layers, random(hidden), random(1000, hidden, seed=6))
    window, h = random(1, 3, channels, seed=8), random(1, channels, states, seed=9)
    keys, values = random(1, 2, 300, 15, seed=10), random(1, 2, 300, 15, seed=11)

    def steps(instruction_set: str | None) -> list[Tensor]:
        room = [keys.clone(), values.clone()]
        memories: list[Memory] = [MambaMemory(window, h), AttentionMemory(room[0], room[1], 270)]
        logits, after = TokenStep(weights, 1e-6, instruction_set)(49, memories)
        return [logits, *after[0], *room]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        actual = steps(name)
        torch.set_num_threads(1)
        alone = steps(name)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(actual, alone, strict=True))
    for one, best in zip(actual, steps(best_instruction_set()), strict=True):
        assert relative_error(one, best) < 1e-5
