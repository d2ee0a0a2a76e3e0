"""One product an expert in one launch, against the plain loop: outputs and both gradients."""

import pytest
import torch
from torch import Tensor

from spellbound.jamba.ops import grouped
from spellbound.jamba.ops.grouped import GroupedLinear, fast, grouped_linear
from tests.jamba.kernels import assert_close

# Rows of each expert: all alike, none for the first, last or middle ones, all for one, one row in all.
COUNTS = [[3, 3, 3, 3], [0, 5, 0, 7], [12, 0, 0, 0], [0, 0, 0, 1], [1, 0, 10, 1], [0, 0, 0, 0]]
every_count = pytest.mark.parametrize("counts", COUNTS, ids=str)


def arguments(counts: list[int], inputs: int = 8, outputs: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Rows sorted by expert, the experts' weights, the counts."""
    torch.manual_seed(0)
    x = torch.randn(sum(counts), inputs, dtype=torch.float64)
    return x, torch.randn(len(counts), outputs, inputs, dtype=torch.float64), torch.tensor(counts)


def plain(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Each row with its own expert's weight, one at a time."""
    experts = torch.repeat_interleave(torch.arange(len(counts)), counts)
    rows = [weight[expert] @ row for row, expert in zip(x, experts, strict=True)]
    return torch.stack(rows) if rows else x.new_zeros(0, weight.shape[1]) + 0 * (x.sum() + weight.sum())


def results(product: object, x: Tensor, weight: Tensor, counts: Tensor, dtype: torch.dtype) -> list[Tensor]:
    x, weight = (tensor.to(dtype).requires_grad_() for tensor in (x, weight))
    y = product(x, weight, counts)  # type: ignore[operator]
    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), dy)]


def through_torch(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """The product that a GPU takes; torch has a slow twin of it on the CPU."""
    y: Tensor = GroupedLinear.apply(x, weight, counts.cumsum(0, dtype=torch.int32))  # type: ignore[no-untyped-call]
    return y


@every_count
def test_the_loop_equals_one_row_at_a_time(counts: list[int]) -> None:
    assert_close(
        results(grouped_linear, *arguments(counts), torch.float32),
        results(plain, *arguments(counts), torch.float64),
        1e-6,
    )


@pytest.mark.parametrize("counts", COUNTS[:-1], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_torchs_product_equals_one_row_at_a_time(
    counts: list[int], dtype: torch.dtype, tolerance: float
) -> None:
    x, weight, ends = arguments(counts)
    x, weight = (tensor.to(dtype).double() for tensor in (x, weight))
    mine = results(through_torch, x, weight, ends, dtype)
    assert_close(mine, results(plain, x, weight, ends, torch.float64), tolerance)
    assert all(tensor.dtype == dtype for tensor in mine)


def test_odd_widths() -> None:
    counts = [2, 0, 5]
    mine = results(grouped_linear, *arguments(counts, 7, 5), torch.float32)
    assert_close(mine, results(plain, *arguments(counts, 7, 5), torch.float64), 1e-6)


@pytest.mark.parametrize("counts", [[2, 3], [0, 1]], ids=str)
def test_the_gradient_of_a_sum_and_rows_out_of_line(counts: list[int]) -> None:
    x, weight, ends = arguments(counts)
    wide = torch.cat([x, x], 1).float()
    askew = wide[:, 8:].requires_grad_()
    (mine,) = torch.autograd.grad(through_torch(askew, weight.float(), ends).sum(), askew)
    x.requires_grad_()
    (right,) = torch.autograd.grad(plain(x, weight, ends).sum(), x)
    assert_close([mine], [right], 1e-6)


def test_only_the_gradient_that_is_wanted_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []

    def counted(*arguments: Tensor, offs: Tensor) -> Tensor:
        products.append(arguments)
        return torch.nn.functional.grouped_mm(*arguments, offs=offs)

    monkeypatch.setattr(grouped, "grouped_mm", counted)
    x, weight, ends = arguments([2, 3])
    x, weight = x.float().requires_grad_(), weight.float()
    y = through_torch(x, weight, ends)
    torch.autograd.grad(y, x, torch.ones_like(y))
    assert len(products) == 2


def test_the_processor_takes_the_loop() -> None:
    x, weight, _ = arguments([2, 3])
    assert not fast(x.bfloat16(), weight.bfloat16())
