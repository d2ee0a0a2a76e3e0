"""One token of each of several rows in one call: every row to the bit what it is alone, and only when
allowed."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from spellbound.jamba import JambaForCausalLM, Piece, SequenceState, new_sequence, read_together, together
from spellbound.jamba import step as one_call
from spellbound.jamba.ops.cpp import step as step_module
from spellbound.jamba.ops.cpp.library import POINTER, best_instruction_set
from spellbound.jamba.ops.cpp.step import (
    AttentionWeights,
    FeedForwardWeights,
    Layout,
    LowRankChange,
    MambaWeights,
    Mixer,
    ModelWeights,
    PagedMemory,
    TokenStep,
    attend_rows_cpp,
)
from spellbound.jamba.sequence import PAGE, MambaRow
from spellbound.jamba.step import next_tokens
from tests.jamba.kernels import AVAILABLE, mamba_memory, needs_library, one_page_each
from tests.jamba.models import SHAPES, ours, relative_error

pytestmark = needs_library
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
ROWS = (1, 2, 3, 5, 16, 64)


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every step so far, whether it went the fused way."""
    calls: list[bool] = []

    def watch(*arguments: Any) -> Tensor | None:
        result = next_tokens(*arguments)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(together, "next_tokens", watch)
    return calls


# ---- the kernel


def odd_weights(dtype: torch.dtype, *, adapted: bool) -> ModelWeights:
    """Layers of every kind, large enough for several threads; no size is a multiple of the lanes."""
    hidden, channels, states, rank, inner = 150, 301, 17, 11, 203
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=draw) * 0.3).to(dtype)

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
    ends = (random(50, hidden), layers, random(hidden), random(1000, hidden))
    if not adapted:
        return ModelWeights(*ends)

    def change(*shape: int, ranks: int = 5) -> LowRankChange:
        *lead, outputs, inputs = shape
        factors = (torch.randn(*lead, ranks, inputs), torch.randn(*lead, outputs, ranks))
        return LowRankChange(*factors, 0.05)

    torch.manual_seed(3)
    mixing = {"in": (2 * channels, hidden), "x": (rank + 2 * states, channels), "dt": (channels, rank)}
    attending = {"q": (90, hidden), "k": (30, hidden), "v": (30, hidden), "o": (hidden, 90)}
    both = change(3, 2 * inner, hidden, ranks=17)
    of_experts = {
        "router": change(3, hidden),
        "gate": both._replace(B=both.B[:, :inner]),
        "up": both._replace(B=both.B[:, inner:]),
        "down": change(3, hidden, inner),
    }
    of_dense = {
        "gate": change(inner, hidden),
        "up": change(inner, hidden, ranks=3),
        "down": change(hidden, inner),
    }
    mamba_changes = {name: change(*shape) for name, shape in (mixing | {"out": (hidden, channels)}).items()}
    attention_changes = {name: change(*shape, ranks=30) for name, shape in attending.items()}
    return ModelWeights(*ends, [mamba_changes | of_experts, attention_changes | of_dense])


class Memories:
    """What some rows remember, the same at every start."""

    def __init__(self, rows: int, dtype: torch.dtype) -> None:
        draw = torch.Generator().manual_seed(1)
        shapes = ((rows, 3, 301), (rows, 301, 17), (rows, 2, 300, 15), (rows, 2, 300, 15))
        self.windows, self.h, self.keys, self.values = (
            torch.randn(*shape, generator=draw) * 0.3 for shape in shapes
        )
        self.windows, self.keys, self.values = (
            each.to(dtype) for each in (self.windows, self.keys, self.values)
        )
        self.lengths = [(1, 271, 128, 129, 40)[row % 5] for row in range(rows)]

    def step(self, step: TokenStep, rows: Sequence[int]) -> list[list[Tensor]]:
        """Take a token of these rows at once; return logits, states, keys and values of each."""
        some = torch.tensor(rows)
        windows, h, keys, values = (each[some] for each in (self.windows, self.h, self.keys, self.values))
        paged = one_page_each(keys, values, [self.lengths[row] for row in rows])
        before = windows.clone(), h.clone()
        logits, ((next_windows, next_h),) = step(
            [row % 50 for row in rows], [mamba_memory(windows, h), paged]
        )
        assert torch.equal(windows, before[0])
        assert torch.equal(h, before[1])
        return [list(each) for each in zip(logits, next_windows, next_h, keys, values, strict=True)]


@each_dtype
@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("adapted", [False, True], ids=["bare", "adapted"])
def test_any_rows_threads_and_instruction_set_agree(
    name: str, threads: int, dtype: torch.dtype, adapted: bool
) -> None:
    weights, memories = odd_weights(dtype, adapted=adapted), Memories(64, dtype)
    step, best = TokenStep(weights, 1e-6, name), TokenStep(weights, 1e-6, best_instruction_set())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [memories.step(step, [row])[0] for row in range(64)]
        torch.set_num_threads(threads)
        for count in ROWS:
            together_ = memories.step(step, list(range(64))[-count:])
            for one, other in zip(together_, alone[-count:], strict=True):
                assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    finally:
        torch.set_num_threads(before)
    for row, other in zip(alone, memories.step(best, range(64)), strict=True):
        for mine, right in zip(row, other, strict=True):
            assert relative_error(mine.float(), right.float()) < (1e-5 if dtype == torch.float32 else 1e-2)


def chosen_by_token(hidden: int, experts: Sequence[Sequence[int]]) -> ModelWeights:
    """Weights of one layer, in which token t meets the experts experts[t], best first."""
    draw = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw) * 0.3

    nothing = torch.zeros(hidden, 8)
    attention = AttentionWeights(
        random(hidden), random(8, hidden), random(8, hidden), random(8, hidden), nothing, 8
    )
    router = torch.zeros(6, hidden)
    for token, own in enumerate(experts):
        for place, expert in enumerate(own):
            router[expert, token] = 3.0 - place
    top_k = len(experts[0])
    layer = FeedForwardWeights(
        torch.ones(hidden), router, random(6, 2 * 20, hidden), None, random(6, hidden, 20), top_k
    )
    return ModelWeights(torch.eye(hidden), [(attention, layer)], torch.ones(hidden), torch.eye(hidden))


@pytest.mark.parametrize(
    "experts",
    [
        pytest.param([[1, 4], [1, 4], [4, 1]], id="all rows the same"),
        pytest.param([[0, 1], [2, 3], [5, 4]], id="each row its own"),
        pytest.param([[0, 5], [5, 2], [2, 0]], id="some share"),
        pytest.param([[3], [3], [5]], id="one for each row"),
        pytest.param([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [2, 1, 0, 5, 4, 3]], id="every expert"),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 13])
def test_rows_meet_the_experts_they_chose(experts: list[list[int]], rows: int) -> None:
    hidden, tokens = 40, [row % 3 for row in range(rows)]
    weights = chosen_by_token(hidden, experts)
    keys, values = torch.zeros(2, rows, 1, 1, 8)
    logits, _ = TokenStep(weights, 1e-6)(tokens, [one_page_each(keys, values, [1] * rows)])
    _, layer = weights.layers[0]
    for row, token in enumerate(tokens):
        x = torch.eye(hidden, dtype=torch.float64)[token]
        normal = x / (x.square().mean() + 1e-6).sqrt()
        assert layer.router_EH is not None
        shares = (layer.router_EH.double() @ normal).softmax(0)
        for expert in experts[token]:
            gate, up = (layer.gate[expert].double() @ normal).chunk(2)
            x = x + shares[expert] * (layer.down[expert].double() @ (nn.functional.silu(gate) * up))
        right = x / (x.square().mean() + 1e-6).sqrt()
        assert relative_error(logits[row].double(), right) < 1e-5


def test_attention_of_more_rows_than_the_work_space_takes_at_once() -> None:
    """All rows lie in one page again and again, so only the work space is large."""
    rows, pages = 70, 240
    numbers = torch.randn(2, PAGE, 4, generator=torch.Generator().manual_seed(0))  # keys, values of one head
    table = (POINTER * pages)(*[numbers.data_ptr()] * pages)
    q = torch.randn(rows, 4, 4, generator=torch.Generator().manual_seed(1))
    lengths = [PAGE * pages - row for row in range(rows)]
    layout = Layout(0, PAGE * 4, PAGE, PAGE * 4)
    at_once = attend_rows_cpp(q, PagedMemory([table] * rows, [table] * rows, lengths, layout), 1)
    for row in (0, 1, 63, 64, rows - 1):
        memory = PagedMemory([table], [table], lengths[row : row + 1], layout)
        assert torch.equal(at_once[row], attend_rows_cpp(q[row : row + 1], memory, 1)[0])


# ---- sequences


def read(model: JambaForCausalLM, ids: Sequence[int], state: SequenceState) -> Tensor:
    (logits_V,) = read_together(model, [Piece(ids, state)])
    assert logits_V is not None
    return logits_V


def sequences(model: JambaForCausalLM, lengths: Sequence[int]) -> list[SequenceState]:
    states = [new_sequence(model) for _ in lengths]
    for number, (state, length) in enumerate(zip(states, lengths, strict=True)):
        if length:
            read(model, [3 + (7 * number + place) % 90 for place in range(length)], state)
    return states


def step_all(model: JambaForCausalLM, ids: Sequence[int], states: Sequence[SequenceState]) -> list[Tensor]:
    found = read_together(model, [Piece([token], state) for token, state in zip(ids, states, strict=True)])
    return [logits_V for logits_V in found if logits_V is not None]


def content(state: SequenceState) -> list[Tensor]:
    """Everything the state holds, up to its length."""
    keys = [page.numbers[:, :, :, : state.length - PAGE * n] for n, page in enumerate(state.pages)]
    return [tensor.clone() for tensor in (*itertools.chain(*(row.tensors() for row in state.mamba)), *keys)]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@each_dtype
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_sequences_of_any_length_are_to_the_bit_as_alone(
    shape: dict[str, Any], dtype: torch.dtype, fused_calls: list[bool]
) -> None:
    model = ours(**shape).to(dtype)
    states = sequences(model, [0, 5, PAGE - 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 40])
    alone = [state.fork() for state in states]
    fused_calls.clear()
    for place in range(4):  # across the ends of pages
        ids = [3 + (place + 11 * number) % 90 for number in range(len(states))]
        found = step_all(model, ids, states)
        assert same(found, [read(model, [token], state) for token, state in zip(ids, alone, strict=True)])
    assert all(same(content(one), content(other)) for one, other in zip(states, alone, strict=True))
    assert fused_calls == [True] * len(fused_calls)


@each_dtype
@pytest.mark.parametrize("rows", ROWS)
def test_any_number_of_forks_that_share_a_page(rows: int, dtype: torch.dtype) -> None:
    model = ours().to(dtype)
    (stem,) = sequences(model, [PAGE + 30])
    before = content(stem)
    forks, alone = ([stem.fork() for _ in range(rows)] for _ in range(2))
    for place in range(3):
        ids = [3 + (place + 13 * number) % 90 for number in range(rows)]
        found = step_all(model, ids, forks)
        assert same(found, [read(model, [token], state) for token, state in zip(ids, alone, strict=True)])
        forks, alone = forks[::-1], alone[::-1]  # rows of the step before, in another order
    assert same(content(stem), before)
    assert all(fork.pages[0] is stem.pages[0] for fork in forks)
    assert len({id(fork.pages[1]) for fork in forks}) == rows


def test_logits_nobody_wants_are_not_returned(fused_calls: list[bool]) -> None:
    model = ours()
    states = sequences(model, [4, 9, 2])
    expected = step_all(model, [5, 6, 7], [state.fork() for state in states])
    found = read_together(model, [Piece([5 + n], state, wanted=n != 1) for n, state in enumerate(states)])
    assert found[1] is None
    assert all(torch.equal(found[n], expected[n]) for n in (0, 2))  # type: ignore[arg-type]
    assert fused_calls[-1]


def test_a_step_takes_the_place_of_states_and_writes_to_none() -> None:
    model = ours()
    states = sequences(model, [4, PAGE, 2])
    forks = [state.fork() for state in states]
    before = [content(fork) for fork in forks]
    step_all(model, [5, 6, 7], states)
    assert all(same(content(fork), old) for fork, old in zip(forks, before, strict=True))


@pytest.mark.parametrize("length", [PAGE - 1, PAGE, 7])
def test_a_step_that_fails_leaves_every_sequence_as_it_was(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ours()
    states = sequences(model, [length, 3])
    expected = step_all(model, [8, 9], [state.fork() for state in states])
    before = [[row.tensors() for row in state.mamba] for state in states]

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "call", fail)
        with pytest.raises(MemoryError):
            step_all(model, [5, 6], states)
    assert [state.length for state in states] == [length, 3]
    for state, rows in zip(states, before, strict=True):
        assert all(same(row.tensors(), old) for row, old in zip(state.mamba, rows, strict=True))
    forks = [state.fork() for state in states]
    assert same(step_all(model, [8, 9], forks), expected)
    assert same(step_all(model, [8, 9], states), expected)


@pytest.mark.parametrize(
    ("bf16", "dtype", "most"),
    [("native", torch.bfloat16, 2), ("convert", torch.bfloat16, 3), ("native", torch.float32, 3)],
)
def test_many_rows_of_a_wide_model_are_left_to_the_modules(
    bf16: str, dtype: torch.dtype, most: int, fused_calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", bf16)
    model = ours().to(dtype)
    states = sequences(model, [3] * (most + 1))
    monkeypatch.setattr(one_call, "_MANY", 3)
    monkeypatch.setattr(one_call, "_MANY_HALVES", 2)
    for wide, many in ((33, True), (32, False)):
        monkeypatch.setattr(one_call, "_WIDE", wide)
        step_all(model, [5] * len(states), states)
        assert fused_calls.pop() == many
    step_all(model, [5] * most, states[:most])
    assert fused_calls.pop()


class Quantised(nn.Parameter):
    """A weight whose numbers are not what its type says."""


@pytest.mark.parametrize("hinder", ["hook", "adapter", "quantised", "another kernel", "wider state"])
def test_whatever_changes_the_modules_goes_through_the_modules(
    hinder: str, fused_calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ours()
    states, ids = sequences(model, [4, 9, 2]), [5, 6, 7]
    plain = step_all(model, ids, [state.fork() for state in states])
    assert fused_calls.pop()
    fused_calls.clear()
    layer: Any = model.model.layers[-1]
    if hinder == "hook":
        layer.feed_forward.router.register_forward_pre_hook(lambda *_: None)
    elif hinder == "adapter":
        inject_adapter_in_model(LoraConfig(target_modules=["in_proj", "q_proj"]), model)
    elif hinder == "quantised":
        layer.input_layernorm.weight = Quantised(layer.input_layernorm.weight.detach())
    elif hinder == "another kernel":
        monkeypatch.setenv("SPELLBOUND_KERNELS", "torch")
    elif hinder == "wider state":
        states[1].mamba = [MambaRow(each.window_BKD, each.ssm_BDN.double(), 0) for each in states[1].mamba]
    found = step_all(model, ids, states)
    assert fused_calls == [False]
    assert max(relative_error(*pair) for pair in zip(found, plain, strict=True)) < 1e-5
