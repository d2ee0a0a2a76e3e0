"""Products of bfloat16 weights: converted or native they are the same numbers, and nothing else changes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spellbound.errors import InputError
from spellbound.jamba import linear as module
from spellbound.jamba.documents import Documents
from spellbound.jamba.linear import Linear, describe_bf16, filled, linear
from spellbound.jamba.ops.cpp.step import linear_row_cpp
from tests.jamba.kernels import needs_library
from tests.jamba.largest import Largest
from tests.jamba.models import ours, tokens

EPS = torch.finfo(torch.bfloat16).eps


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Force conversion; what is converted is noted."""
    monkeypatch.setenv("SPELLBOUND_BF16", "convert")
    seen: list[Tensor] = []
    plain = module._converted

    def noted(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        seen.append(x)
        return plain(x, weight_OI, bias_O)

    monkeypatch.setattr(module, "_converted", noted)
    return seen


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@pytest.mark.parametrize("way", ["native", "convert"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(1,), (4,), (5,), (41,), (2, 40), (2, 41), (0,)])
def test_equals_the_exact_product(
    way: str, bias: bool, rows: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", way)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 7 * 33)  # 50 outputs: several blocks and a smaller one
    x, weight_OI, bias_O = numbers(*rows, 33), numbers(50, 33), numbers(50) if bias else None
    with torch.no_grad():
        found = linear(x, weight_OI, bias_O)
    wanted = nn.functional.linear(x.double(), weight_OI.double(), None if bias_O is None else bias_O.double())
    assert found.dtype == torch.bfloat16
    assert found.shape == wanted.shape
    assert bool(((found.double() - wanted).abs() <= EPS * wanted.abs() + 1e-5).all())


def test_only_many_rows_of_bfloat16_without_gradients_are_converted(convert: list[Tensor]) -> None:
    weight = numbers(6, 8)
    linear(numbers(9, 8), weight.clone().requires_grad_()).sum().backward()
    with torch.no_grad():
        linear(numbers(4, 8), weight)
        linear(numbers(9, 8).float(), weight.float())
        linear(numbers(9, 8).half(), weight.half())
        with torch.autocast("cpu", torch.bfloat16):
            linear(numbers(9, 8), weight)
            linear(numbers(9, 8), weight.float())
        assert not convert
        linear(numbers(9, 8), weight)
    assert len(convert) == 1


@needs_library
def test_one_row_is_multiplied_by_our_own_product_where_it_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def noted(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        calls.append(x)
        return linear_row_cpp(x, weight_OI, bias_O)

    monkeypatch.setattr(module, "linear_row_cpp", noted)
    monkeypatch.setattr(module, "_LARGE", 1)
    x, weight, bias = (numbers(*shape).float() for shape in ((1, 1, 8), (6, 8), (6,)))
    with torch.no_grad():
        assert torch.allclose(linear(x, weight, bias), nn.functional.linear(x, weight, bias))
        assert len(calls) == 1
        linear(x, weight, torch.zeros(1).expand(6))
        linear(x, weight, torch.zeros(1))
        linear(x, weight.t().contiguous().t())
        linear(x, weight.to("meta"))
        for wrong in ((x[..., :5], weight), (x, weight, bias.bfloat16())):
            with pytest.raises(RuntimeError):
                linear(*wrong)
    assert len(calls) == 1


def test_no_whole_weight_is_held_in_float32(convert: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 4096)
    x, weight_OI = numbers(16, 64), numbers(640, 64)
    with torch.no_grad(), Largest() as largest:
        linear(x, weight_OI)
    assert len(convert) == 1
    assert largest.numel <= 16 * 640 < weight_OI.numel()


def test_a_model_of_bfloat16_weights(convert: list[Tensor]) -> None:
    model, input_ids = ours(num_experts=1), tokens(2, 30)  # rounding would send some to other experts
    with torch.no_grad():
        wanted = model(input_ids).logits
        difference = model.bfloat16()(input_ids).logits.float() - wanted
    assert convert
    assert difference.abs().mean() / wanted.abs().mean() < 0.05


def test_others_take_it_for_a_linear_layer(convert: list[Tensor]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = nn.Sequential(Linear(8, 6)).bfloat16()
    assert isinstance(model[0], nn.Linear)
    adapted: Any = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), model)
    with torch.no_grad():
        adapted(numbers(9, 8))
    assert len(convert) == 1


def test_quantisers_find_the_type_they_replace() -> None:
    def kinds(model: nn.Module) -> set[type]:
        return {type(module) for module in model.modules() if isinstance(module, nn.Linear)}

    assert kinds(ours()) == {Linear}
    quantised = ours(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert kinds(quantised) == {nn.Linear}
    input_ids = tokens(1, 9)
    with torch.no_grad():
        assert torch.equal(quantised(input_ids).logits, ours()(input_ids).logits)


class TestChoice:
    """Which way, and what is said of it."""

    @pytest.fixture(autouse=True)
    def fresh(self) -> Iterator[None]:
        module._choose.cache_clear()
        yield
        module._choose.cache_clear()

    def test_by_the_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SPELLBOUND_BF16", raising=False)
        for feature, detail in (
            ("avx512_bf16", "native (avx512_bf16)"),
            (None, "converted to float32 layer by layer: this processor has no bf16 arithmetic"),
        ):
            monkeypatch.setattr(module, "_bf16_feature", lambda feature=feature: feature)
            module._choose.cache_clear()
            assert describe_bf16().native == (feature is not None)
            assert describe_bf16().detail == detail

    @pytest.mark.parametrize(
        ("machine", "supported", "feature"),
        [
            ("x86_64", "_is_amx_tile_supported", "amx"),
            ("x86_64", "_is_avx512_bf16_supported", "avx512_bf16"),
            ("x86_64", "", None),
        ],
    )
    def test_of_x86(
        self, machine: str, supported: str, feature: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: machine)
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda name=name: name == supported)
        assert module._bf16_feature() == feature

    def test_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPELLBOUND_BF16", "yes")
        with pytest.raises(InputError, match="SPELLBOUND_BF16 is 'yes'; set it to native or convert"):
            describe_bf16()


# ---- few numbers of rows


def test_rows_are_filled_up_to_few_numbers_where_the_processor_multiplies_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", "native")
    counts = set()
    for rows in range(1, 2000):
        x = torch.ones(2, rows, 3, dtype=torch.bfloat16)
        more = filled(x)
        counts.add(more.shape[1])
        assert rows <= more.shape[1] <= rows + rows / 8
        assert torch.equal(more[:, :rows], x)
        assert not more[:, rows:].any()
    assert len(counts) <= 8 * 9
    wide = torch.ones(1000, 3)
    assert filled(wide) is wide
    with torch.autocast("cpu", torch.bfloat16):
        assert len(filled(wide)) == 1024
    monkeypatch.setenv("SPELLBOUND_BF16", "convert")
    half = wide.bfloat16()
    assert filled(half) is half


@pytest.mark.parametrize("shape", [{}, {"num_experts": 1}, {"num_experts_per_tok": 1}])
def test_what_is_filled_up_changes_neither_outputs_nor_gradients(
    shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = ours(**shape), tokens(1, 150)
    documents = Documents.of(torch.tensor([[0] * 37 + [1] * 101 + [2] * 12]), ids)
    found = []
    for way in ("native", "convert"):
        monkeypatch.setenv("SPELLBOUND_BF16", way)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(ids, None, documents)
        hidden.float().square().mean().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append([hidden.float().detach(), *(each.clone() for each in gradients)])
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / other.norm().clamp(min=1e-9)) < 0.03
