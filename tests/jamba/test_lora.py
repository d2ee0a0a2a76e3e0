"""LoRA: what names mean, what is trained, and that every way through the model meets the adapter."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spellbound.errors import ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.feed_forward import Experts
from spellbound.jamba.lora import (
    LoraSettings,
    adapter_parameters,
    attach_lora,
    detach_adapter,
    merge_adapter,
    plan_lora,
)
from spellbound.jamba.lora.attach import adapters
from tests.jamba.adapters import EVERYTHING, adapted, by_hand, randomised, settings
from tests.jamba.models import SHAPES, ours, relative_error, tokens

IDS = tokens(2, 23)


def logits(model: JambaForCausalLM, ids_BT: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids_BT).logits
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0; give a whole number from 1"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"rank": True}, "rank is True"),
        ({"alpha": 0.0}, r"alpha is 0\.0; give a number above 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"dropout": 1.0}, r"dropout is 1\.0; give a share"),
        ({"targets": ()}, r"targets are \(\); give"),
        ({"targets": "q_proj"}, "targets are 'q_proj'; give a tuple"),
        ({"targets": ("",)}, "target '' is not a name"),
        ({"targets": ("layers.(0",)}, "is no regular expression"),
        ({"targets": ("q_proj", "q_proj")}, "'q_proj' is given twice"),
    ],
)
def test_settings_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        LoraSettings(**{"targets": ("q_proj",), **changes})


def names(*targets: str, **changes: Any) -> list[str]:
    return [row.name for row in plan_lora(ours(**changes), settings(*targets)).rows]


def test_feed_forward_names_mean_dense_layers_and_experts() -> None:
    assert names("down_proj") == [
        "model.layers.0.feed_forward.down_proj",
        "model.layers.1.feed_forward.experts.down_proj",
        "model.layers.2.feed_forward.down_proj",
        "model.layers.3.feed_forward.experts.down_proj",
    ]
    assert names(
        "gate_proj", "up_proj", expert_layer_period=1, expert_layer_offset=0, num_hidden_layers=2
    ) == [
        "model.layers.0.feed_forward.experts.gate_up_proj",
        "model.layers.1.feed_forward.experts.gate_up_proj",
    ]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            "feed_forward.gate_proj",
            ["model.layers.0.feed_forward.gate_proj", "model.layers.2.feed_forward.gate_proj"],
        ),
        ("layers.1.feed_forward.router", ["model.layers.1.feed_forward.router"]),
        ("experts.gate_up_proj", [f"model.layers.{i}.feed_forward.experts.gate_up_proj" for i in (1, 3)]),
        (
            r".*\.[01]\..*down_proj",
            ["model.layers.0.feed_forward.down_proj", "model.layers.1.feed_forward.experts.down_proj"],
        ),
        ("model.layers.0.mamba.dt_proj", ["model.layers.0.mamba.dt_proj"]),
        ("lm_head", ["lm_head"]),
    ],
)
def test_targets_are_ends_of_names_or_expressions(target: str, expected: list[str]) -> None:
    assert names(target) == expected


def test_experts_name_both_their_products() -> None:
    found = [f"model.layers.1.feed_forward.experts.{part}_proj" for part in ("gate_up", "down")]
    assert names("layers.1.feed_forward.experts") == found


@pytest.mark.parametrize(
    ("targets", "changes", "message"),
    [
        (("query",), {}, "'query' matches nothing in this model; names there are: .*, q_proj, router, "),
        (("q_proj", "proj"), {}, "'proj' matches nothing"),
        ((r".*\.9\..*",), {}, "matches nothing"),
        (("conv1d",), {}, "'conv1d' has no product to adapt"),
        (("A_log",), {}, "'A_log' has no product to adapt"),
        (("router",), {"num_experts": 1}, "'router' matches nothing"),
        (("gate_proj",), {}, "'gate_proj' is half of the experts' gate_up_proj.*name 'up_proj' too"),
        (("lm_head",), {"tie_word_embeddings": True}, "'lm_head' is tied to another weight"),
        (("embed_tokens",), {"tie_word_embeddings": True}, "'embed_tokens' is tied to another weight"),
    ],
)
def test_a_target_that_cannot_be_adapted(
    targets: Sequence[str], changes: dict[str, Any], message: str
) -> None:
    model = ours(**changes)
    with pytest.raises(ModelError, match=message):
        plan_lora(model, settings(*targets))
    with pytest.raises(ModelError, match=message):
        attach_lora(model, settings(*targets), 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plan_is_what_is_attached(shape: str) -> None:
    changes = SHAPES[shape]
    model = ours(**changes)
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if "experts" in there:
        there |= {"gate_proj", "up_proj", "down_proj"}
    if changes.get("tie_word_embeddings"):
        there -= {"embed_tokens", "lm_head"}
    wanted = settings(*(target for target in EVERYTHING if target in there))
    planned = plan_lora(model, wanted)
    before = logits(model)
    assert attach_lora(model, wanted, 0) == planned
    found = adapter_parameters(model)
    assert [row.name for row in planned.rows] == list(adapters(model))
    assert planned.total == sum(parameter.numel() for parameter in found.values())
    assert {id(each) for each in model.parameters() if each.requires_grad} == {
        id(each) for each in found.values()
    }
    assert all(parameter.dtype == torch.float32 for parameter in found.values())
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)


def test_the_plan_needs_no_weights_and_says_it_for_people() -> None:
    with torch.device("meta"):
        model = JambaForCausalLM(ours().config)
    lines = plan_lora(model, settings("q_proj", "down_proj", rank=2)).lines()
    assert [" ".join(line.split()) for line in lines] == [
        "feed_forward.down_proj linear 2 x 32 x 48 rank 2 320",
        "self_attn.q_proj linear 1 x 32 x 32 rank 2 128",
        "experts.down_proj experts 2 x 4 x 32 x 48 rank 2 1,280",
        "5 adapters, 1,728 numbers, 2.015% of 85,766",
    ]


def test_the_start_depends_on_seed_and_name_alone() -> None:
    first, second, third = ours(), ours(seed=5), ours()
    attach_lora(first, settings("q_proj", "experts"), 1)
    torch.manual_seed(99)
    attach_lora(second, settings(), 1)
    attach_lora(third, settings("q_proj"), 2)
    one, all_, other = (adapter_parameters(model) for model in (first, second, third))
    for name, parameter in one.items():
        torch.testing.assert_close(parameter, all_[name], rtol=0, atol=0)
        assert bool(parameter.any()) == name.endswith("lora_A")
    name = "model.layers.1.self_attn.q_proj.lora_A"
    assert not torch.equal(one[name], other[name])
    embedding = all_["model.embed_tokens.lora_B"]
    assert float(embedding.detach().std()) == pytest.approx(1, abs=0.3)
    assert not all_["model.embed_tokens.lora_A"].any()


@pytest.mark.parametrize("shape", ["usual", "as Jamba Mini", "all experts", "one expert per token", "biases"])
def test_logits_and_gradients_are_those_of_changed_weights(shape: str) -> None:
    changes = SHAPES[shape]
    bare = ours(**changes)
    model = adapted(
        copy.deepcopy(bare), *(EVERYTHING if shape != "all experts" else ("down_proj", "router", "dt_proj"))
    )
    expected, factors = by_hand(bare, model, IDS)
    actual = model(IDS).logits
    assert relative_error(actual.detach(), expected.detach()) < 1e-5
    weighting = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    (expected * weighting).sum().backward()
    (actual * weighting).sum().backward()
    for name, parameter in adapter_parameters(model).items():
        actual_grad, expected_grad = parameter.grad, factors[name].grad
        assert actual_grad is not None
        assert expected_grad is not None
        assert actual_grad.any(), name
        assert relative_error(actual_grad, expected_grad) < 2e-4, name
    assert all(each.grad is None for each in model.parameters() if not each.requires_grad)


class Sizes(TorchDispatchMode):
    """Notes the largest tensor that any operation makes anew."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, Tensor) and each.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, each.numel())
        return made


def test_no_change_as_large_as_the_experts_ever_exists() -> None:
    model = ours(hidden_size=64, intermediate_size=256, num_experts=8, num_hidden_layers=2)
    attach_lora(model, settings("experts", rank=1), 0)
    randomised(model)
    whole = next(module for module in model.modules() if isinstance(module, Experts)).down_proj.numel()
    with Sizes() as sizes:  # type: ignore[no-untyped-call]
        model(IDS[:1, :9], labels=IDS[:1, :9]).loss.backward()
    assert sizes.largest < whole / 8


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("counts", [[4, 0, 5, 1], [0, 0, 0, 3]])
def test_all_experts_in_one_product_are_each_of_them(rank: int, counts: list[int]) -> None:
    model = ours()
    attach_lora(model, settings("experts", rank=rank), 0)
    randomised(model)
    lora = adapters(model)["model.layers.1.feed_forward.experts.gate_up_proj"]
    x = torch.randn(sum(counts), 32)
    y = torch.randn(sum(counts), 96)
    parts = zip(lora.each(), x.split(counts), y.split(counts), strict=True)
    expected = torch.cat([add(part, out.clone()) for add, part, out in parts])
    actual = lora.grouped(x, y.clone(), torch.tensor(counts))
    torch.testing.assert_close(actual, expected)
    weighting = torch.randn(expected.shape)
    given = (lora.lora_A, lora.lora_B)
    wanted = torch.autograd.grad((expected * weighting).sum(), given)
    for found, right in zip(torch.autograd.grad((actual * weighting).sum(), given), wanted, strict=True):
        torch.testing.assert_close(found, right)


def test_every_way_of_reading_meets_the_adapter() -> None:
    model = adapted(ours())
    whole = logits(model, IDS[:1])
    state = model.new_state(1)
    with torch.no_grad():
        parts = [model(IDS[:1, begin:end], state=state).logits for begin, end in ((0, 7), (7, 8), (8, 20))]
        parts += [model(IDS[:1, place : place + 1], state=state).logits for place in range(20, 23)]
    assert relative_error(torch.cat(parts, 1), whole) < 1e-5
    with torch.no_grad():
        packed = model(IDS.view(1, -1), document_ids=torch.arange(2).repeat_interleave(23)[None]).logits
    assert relative_error(packed.view_as(logits(model)), logits(model)) < 1e-5


def test_the_fused_step_gives_way_and_comes_back() -> None:
    model = ours()

    def next_logits() -> Tensor:
        state = model.new_state(1)
        with torch.no_grad():
            model(IDS[:1, :5], state=state)
            found: Tensor = model(IDS[:1, 5:6], state=state).logits
        return found

    bare = next_logits()
    for target in ("experts", "router", "dt_proj", "embed_tokens"):
        adapted(model, target)
        changed = next_logits()
        assert relative_error(changed, logits(model, IDS[:1, :6])[:, -1:]) < 1e-5
        assert relative_error(changed, bare) > 1e-3
        detach_adapter(model)
        torch.testing.assert_close(next_logits(), bare, rtol=0, atol=0)
    adapted(model)
    changed = next_logits()
    merge_adapter(model)
    assert relative_error(next_logits(), changed) < 1e-5


def gradients(model: JambaForCausalLM) -> dict[str, Tensor]:
    model.zero_grad()
    model(IDS, labels=IDS).loss.backward()
    return {name: each.grad for name, each in adapter_parameters(model).items() if each.grad is not None}


def test_gradient_checkpointing_changes_nothing() -> None:
    model = adapted(ours()).train()
    plain = gradients(model)
    assert len(plain) == len(adapter_parameters(model))
    model.activation_checkpointing_enable()
    again = gradients(model)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=0)


def test_narrow_models_and_autocast() -> None:
    model = adapted(ours(), *(target for target in EVERYTHING if target != "router"))
    exact = gradients(model)
    wide = logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradients(model)
        assert relative_error(logits(model).float(), wide) < 0.15
    narrow = ours().to(torch.bfloat16)
    attach_lora(narrow, settings(*(target for target in EVERYTHING if target != "router")), 0)
    randomised(narrow)
    rough = gradients(narrow)
    assert logits(narrow).dtype == narrow.dtype == torch.bfloat16
    assert relative_error(logits(narrow).float(), wide) < 0.15
    for name, gradient in exact.items():
        assert mixed[name].dtype == rough[name].dtype == torch.float32
        for other in (mixed[name], rough[name]):
            assert torch.cosine_similarity(other.flatten(), gradient.flatten(), 0) > 0.9, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_keeps_dtype_and_names(dtype: torch.dtype) -> None:
    model = ours().to(dtype)
    attach_lora(model, settings(), 0)
    randomised(model, size=0.05)
    before, shapes = logits(model).float(), {name: each.shape for name, each in ours().named_parameters()}
    merge_adapter(model)
    assert {name: each.shape for name, each in model.named_parameters()} == shapes
    assert {each.dtype for each in model.parameters()} == {dtype}
    assert relative_error(logits(model).float(), before) < (1e-5 if dtype == torch.float32 else 0.2)


def test_detaching_gives_the_model_back() -> None:
    model = ours()
    before = logits(model)
    adapted(model)
    assert relative_error(logits(model), before) > 0.01
    detach_adapter(model)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    with pytest.raises(ModelError, match="the model has no adapter; load or attach one first"):
        detach_adapter(model)
    with pytest.raises(ModelError, match="the model has no adapter"):
        merge_adapter(model)


def test_one_adapter_at_a_time() -> None:
    model = adapted(ours(), "q_proj")
    with pytest.raises(ModelError, match="has an adapter already; merge or detach it"):
        attach_lora(model, settings("k_proj"), 0)


def test_dropout_is_for_training() -> None:
    model = ours()
    attach_lora(model, settings(dropout=0.5), 0)
    randomised(model)
    torch.testing.assert_close(logits(model), logits(model), rtol=0, atol=0)
    model.train()
    torch.manual_seed(0)
    first = logits(model)
    assert not torch.equal(logits(model), first)
    torch.manual_seed(0)
    torch.testing.assert_close(logits(model), first, rtol=0, atol=0)


def test_fingerprints_tell_adapters_apart() -> None:
    model = ours()
    seen = [model.fingerprint()]
    adapted(model, "q_proj")
    seen.append(model.fingerprint())
    for lora in adapters(model).values():
        lora.alpha *= 2
    seen.append(model.fingerprint())
    merge_adapter(model)
    seen.append(model.fingerprint())
    assert len(set(seen)) == 4
    other = adapted(ours(), "q_proj")
    detach_adapter(other)
    assert other.fingerprint() == seen[0]


class Packed(nn.Linear):
    """As a quantised layer is: its weight cannot be used by others, its result is its own."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=False)
        self.step = float(base.weight.detach().abs().max()) / 127
        whole = (base.weight.detach() / self.step).round().to(torch.int8)
        self.weight = nn.Parameter(whole.view(-1, 1), requires_grad=False)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(self.out_features, self.in_features) * self.step
        self.last = nn.functional.linear(x, weight)
        return self.last


def test_quantised_layers_are_called_and_not_merged() -> None:
    model = ours()
    packed = Packed(model.model.layers[1].self_attn.q_proj)  # type: ignore[union-attr, arg-type]
    model.model.layers[1].self_attn.q_proj = packed  # type: ignore[union-attr]
    before = logits(model)
    plan = attach_lora(model, settings("q_proj"), 0)
    assert plan.rows[0].shape == (32, 32)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    randomised(model)
    assert relative_error(logits(model), before) > 1e-3
    kept = packed.last
    assert kept is not None
    again = packed(torch.zeros(1, 32))
    assert not again.any()
    assert all(gradient.any() for gradient in gradients(model).values())
    with pytest.raises(ModelError, match=r"q_proj: the weight is quantised \(torch\.int8\)"):
        merge_adapter(model)
    assert adapters(model)
