"""Attention over a past against the textbook: every split, head sharing, dtype and layout; and its memory.

B batch, T time, S keys, Q query heads, G key/value heads, P head size.
"""

import pytest
import torch
from torch import Tensor

from spellbound.jamba import attention
from spellbound.jamba.attention import attend
from tests.jamba.largest import Largest

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
HEADS = [(4, 4), (6, 2), (4, 1), (1, 1)]


def textbook(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor) -> Tensor:
    """All scores, in float64."""
    times = q_BQTP.shape[1] // k_BGSP.shape[1]
    k_BQSP, v_BQSP = (each.double().repeat_interleave(times, 1) for each in (k_BGSP, v_BGSP))
    scores = q_BQTP.double() @ k_BQSP.mT / q_BQTP.shape[-1] ** 0.5
    time, keys = scores.shape[-2:]
    seen = torch.ones(time, keys, dtype=torch.bool).tril(keys - time)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v_BQSP


def inputs(
    heads: tuple[int, int], past: int, time: int, size: int = 8, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries as projections lay them out, keys and values as a state's buffers do: longer than filled."""
    queries, groups = heads
    generator = torch.Generator().manual_seed(past + time)
    q_BTQP = torch.randn(2, time, queries, size, generator=generator) * 2
    buffers = (torch.randn(2, groups, past + time + 9, size, generator=generator) for _ in range(2))
    keys, values = (buffer.to(dtype)[:, :, : past + time] for buffer in buffers)
    return q_BTQP.to(dtype).transpose(1, 2), keys, values


def far(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max())


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("past", [0, 1, 2, 31, 32, 300])
@pytest.mark.parametrize("time", [1, 2, 31, 32, 33, 130])
def test_equals_the_textbook(heads: tuple[int, int], past: int, time: int) -> None:
    q, k, v = inputs(heads, past, time)
    with torch.no_grad():
        found = attend(q, k, v)
    assert found.shape == q.shape
    assert far(found, textbook(q, k, v)) < 1e-5


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [1, 5, 64, 128, 320])
@pytest.mark.parametrize(("past", "time"), [(0, 40), (70, 1), (70, 40)])
def test_every_dtype_and_head_size(dtype: torch.dtype, size: int, past: int, time: int) -> None:
    q, k, v = inputs((6, 2), past, time, size, dtype)
    with torch.no_grad():
        found = attend(q, k, v)
    assert found.dtype == dtype
    assert far(found, textbook(q, k, v)) < TOLERANCE[dtype]


@pytest.mark.parametrize("time", [1, 20])
def test_any_strides(time: int) -> None:
    for stride in (2, 3):
        q, k, v = (each[..., ::stride] for each in inputs((6, 2), 30, time, 24))
        with torch.no_grad():
            assert far(attend(q, k, v), textbook(q, k, v)) < 1e-5


@pytest.mark.parametrize(("past", "time"), [(0, 1), (0, 20), (30, 1), (30, 20)])
@pytest.mark.parametrize("heads", HEADS)
def test_gradients(past: int, time: int, heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_MASK_ELEMENTS", 300)  # so that a continuation takes several masks
    leaves = [each.double().requires_grad_() for each in inputs(heads, past, time)]
    weight = torch.randn_like(leaves[0])
    found, wanted = (
        torch.autograd.grad((function(*leaves) * weight).sum(), leaves) for function in (attend, textbook)
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert far(mine, theirs) < 1e-11


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_torch_without_the_operation(
    heads: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_FLASH_CPU", None)
    q, k, v = inputs(heads, 40, 25, dtype=dtype)
    with torch.no_grad():
        assert far(attend(q, k, v), textbook(q, k, v)) < TOLERANCE[dtype]


def test_how_gpus_mask() -> None:
    q, k, v = inputs((6, 2), 40, 25)
    with torch.inference_mode():
        assert far(attention._lower_right(q, k, v), textbook(q, k, v)) < 1e-5


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    q, k, v = inputs((4, 2), 40, 20)
    for part in (slice(0, 40), slice(40, 60)):  # nearly all weight on the past, nearly all on the own
        skewed = k.clone()
        skewed[:, :, part] *= 100
        with torch.no_grad():
            assert far(attend(q, skewed, v), textbook(q, skewed, v)) < 1e-4


def test_dropout_while_training_without_gradients() -> None:
    for past, time in ((0, 20), (30, 1), (30, 20)):
        q, k, v = inputs((4, 2), past, time)
        with torch.no_grad():
            assert far(attend(q, k, v, 0.5), textbook(q, k, v)) > 0.1


@pytest.mark.parametrize("time", [1, 64])
def test_no_mask_and_no_copy_of_the_keys(time: int) -> None:
    q, k, v = inputs((6, 2), 5000, time)
    with torch.no_grad(), Largest() as largest:
        attend(q, k, v)
    assert 0 < largest.numel <= q.numel()
