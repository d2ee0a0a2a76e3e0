"""One token of one row through the whole model in one call: what the modules compute, for every kind of
layer, and only when allowed."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import Tensor, nn

from spellbound.errors import InputError, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba import model as model_module
from spellbound.jamba.feed_forward import Router
from spellbound.jamba.lora import adapter_parameters
from spellbound.jamba.lora.attach import adapters, detach_adapter
from spellbound.jamba.lora.sites import choose_sites
from spellbound.jamba.mamba import MambaMixer
from spellbound.jamba.model import JambaDecoderLayer
from spellbound.jamba.ops.cpp.step import linear_row_cpp
from spellbound.jamba.state import MambaState
from spellbound.jamba.step import one_token
from tests.jamba.adapters import LINEAR, adapted, randomised
from tests.jamba.kernels import AVAILABLE, needs_library
from tests.jamba.models import SHAPES, ours, relative_error, tokens

pytestmark = [
    needs_library,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT's own
]
each_set = pytest.mark.parametrize("name", AVAILABLE)
DENSE = ("feed_forward.gate_proj", "feed_forward.up_proj", "feed_forward.down_proj")
OF_EXPERTS = ("experts.gate_up_proj", "experts.down_proj", "router")
TAKEN_ALONG = (*LINEAR, "dt_proj", *DENSE, *OF_EXPERTS)


def reaches(model: JambaForCausalLM, target: str) -> bool:
    """Whether there is anything of this name to adapt."""
    try:
        return bool(choose_sites(model, (target,)))
    except ModelError:
        return False


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
        "own class",
        "hook of all modules",
        "strided weight",
    ],
)
def test_whatever_changes_the_modules_goes_through_the_modules(
    hinder: str,
    fused_calls: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    model, ids = ours(), tokens(1, 9)
    plain = decode(model, ids)
    assert fused_calls.pop()
    fused_calls.clear()
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
        elif hinder == "own class":
            for each in model.model.layers:
                each.__class__ = type("Layer", (JambaDecoderLayer,), {"__module__": "elsewhere"})
            model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())  # is looked at anew
        elif hinder == "hook of all modules":
            handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
            request.addfinalizer(handle.remove)
        elif hinder == "strided weight":
            weight = layer.input_layernorm.weight
            layer.input_layernorm.weight = torch.nn.Parameter(weight.repeat(2)[::2])
        result = decode(model, ids)
    assert not any(fused_calls)
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


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_adapters_of_our_own_are_taken_along(shape: dict[str, Any], fused_calls: list[bool]) -> None:
    model, ids = ours(**shape), tokens(1, 14)
    bare = decode(model, ids)
    adapted(model, *(target for target in TAKEN_ALONG if reaches(model, target)))
    stepwise = decode(model, ids)
    assert fused_calls[-1]
    with torch.inference_mode():
        assert relative_error(stepwise, model(ids).logits[:, 5:]) < 1e-5
    assert relative_error(stepwise, bare) > 1e-2


@pytest.mark.parametrize("target", TAKEN_ALONG)
def test_each_product_has_its_own_adapter(target: str, fused_calls: list[bool]) -> None:
    model, ids = adapted(ours(), target, rank=21), tokens(1, 9)
    stepwise = decode(model, ids)
    assert fused_calls[-1]
    with torch.inference_mode():
        assert relative_error(stepwise, model(ids).logits[:, 5:]) < 1e-5


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_adapters_at_the_ends_are_left_to_the_modules(target: str, fused_calls: list[bool]) -> None:
    model, ids = adapted(ours(), target, "in_proj"), tokens(1, 9)
    stepwise = decode(model, ids)
    assert not any(fused_calls)
    with torch.inference_mode():
        assert relative_error(stepwise, model(ids).logits[:, 5:]) < 1e-5


def test_an_adapter_beside_half_precision(monkeypatch: pytest.MonkeyPatch, fused_calls: list[bool]) -> None:
    model, ids = adapted(ours(num_hidden_layers=8), *TAKEN_ALONG), tokens(1, 40)
    exact = decode(model, ids)
    factors = {name: value.clone() for name, value in adapter_parameters(model).items()}
    model.to(torch.bfloat16)
    for name, value in adapter_parameters(model).items():
        value.data = factors[name]  # as adapters are loaded: float32 beside whatever the weights are
    fused = decode(model, ids)
    assert fused_calls[-1]
    monkeypatch.setattr(model_module, "one_token", lambda *_: None)
    by_modules = decode(model, ids)
    error, usual = ((each.float() - exact).square().mean().sqrt() for each in (fused, by_modules))
    assert error < 1.2 * usual


def test_an_adapter_that_changes_is_noticed(fused_calls: list[bool]) -> None:
    model, ids = adapted(ours(), *TAKEN_ALONG), tokens(1, 9)
    first = decode(model, ids)
    randomised(model, seed=1)  # in place, as training does
    assert torch.equal(decode(model, ids), decode(adapted(ours(), *TAKEN_ALONG, seed=1), ids))
    randomised(model, seed=0)
    assert torch.equal(decode(model, ids), first)
    for lora in adapters(model).values():
        lora.alpha *= 2
    other = decode(model, ids)
    assert relative_error(other, first) > 1e-2
    with torch.inference_mode():
        assert relative_error(other, model(ids).logits[:, 5:]) < 1e-5
    detach_adapter(model)
    assert torch.equal(decode(model, ids), decode(ours(), ids))
    assert all(fused_calls[-4:])


def test_a_hook_that_is_gone_hinders_no_longer(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 9)
    seen: list[Tensor] = []
    hook = model.model.layers[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    watched = decode(model, ids)
    assert not fused_calls[-1]
    assert len(seen) == 5  # the prompt, then each token
    hook.remove()
    assert relative_error(decode(model, ids), watched) < 1e-5
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


def test_a_hook_taken_away_hinders_no_longer(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 7)
    for register in (
        model.model.layers[0].register_forward_hook,
        nn.modules.module.register_module_forward_hook,
    ):
        handle = register(lambda *_: None)
        decode(model, ids)
        handle.remove()
        assert not fused_calls[-1]
        decode(model, ids)
        assert fused_calls[-1]


def test_dropout_is_left_to_the_modules(fused_calls: list[bool]) -> None:
    model, ids = ours(attention_dropout=0.5), tokens(1, 7)
    decode(model, ids)
    assert fused_calls[-1]
    decode(model.train(), ids)
    assert not fused_calls[-1]


def test_another_number_of_experts_is_noticed(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 9)
    decode(model, ids)
    for module in model.modules():
        if isinstance(module, Router):
            module.top_k = 1
    with torch.inference_mode():
        assert relative_error(decode(model, ids), model(ids).logits[:, 5:]) < 1e-5
    assert fused_calls[-1]


def test_a_new_module_is_noticed_where_the_old_one_lay(fused_calls: list[bool]) -> None:
    model, ids = ours(), tokens(1, 9)
    decode(model, ids)
    layer: Any = model.model.layers[0]
    config = model.config
    del layer.mamba  # the next module made may get its address
    layer.mamba = MambaMixer(config)
    nn.init.normal_(layer.mamba.in_proj.weight)
    with torch.inference_mode():
        assert relative_error(decode(model, ids), model(ids).logits[:, 5:]) < 1e-5
    assert fused_calls[-1]


def test_a_state_elsewhere_is_an_error_of_torch() -> None:
    model, ids = ours(), tokens(1, 1)
    state = model.new_state(1)
    for layer in state.layers:
        if isinstance(layer, MambaState):
            layer.conv_BKD = layer.conv_BKD.to("meta")
    with torch.no_grad(), pytest.raises((InputError, RuntimeError), match="meta"):
        model(ids, state=state)


def test_an_embedding_with_fewer_rows_than_the_head_is_an_error_of_torch() -> None:
    model = ours()
    model.model.embed_tokens = nn.Embedding(50, 32)
    with torch.no_grad(), pytest.raises(IndexError):
        model(torch.tensor([[60]]), state=model.new_state(1))


def test_the_step_is_neither_copied_nor_keeps_the_model() -> None:
    model, ids = ours(), tokens(1, 7)
    expected = decode(model, ids)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 (our own bytes)
        assert other.fused_step is None
        assert torch.equal(decode(other, ids), expected)
    held: Any = model
    held.usual_forward = model.forward  # as wrappers do: the model is in its own dict
    gone = weakref.ref(model)
    del model, held
    gc.collect()
    assert gone() is None


def test_several_python_threads_at_once(fused_calls: list[bool]) -> None:
    models, ids = [ours(), ours(seed=1)], tokens(1, 12)
    expected = [decode(model, ids) for model in models]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: decode(models[index % 2], ids), range(12)))
    assert all(torch.equal(result, expected[index % 2]) for index, result in enumerate(results))
    assert fused_calls[-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_is_not_ours(dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    model, ids, x, weight = ours(), tokens(1, 7), random(1, 70), random(300, 70)
    expected, product = decode(model, ids), linear_row_cpp(x, weight, None)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(dtype)
    assert torch.equal(decode(model, ids), expected)
    assert torch.equal(linear_row_cpp(x, weight, None), product)


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
