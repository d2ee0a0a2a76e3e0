"""What a training step keeps for its backward pass, counted as this code saves it, operation by operation.

The formulas follow the autograd functions of `jamba.ops` and torch's own; a test compares them with saved
tensors that it counts. X tokens (rows x time, padding included), H hidden, F inner, D channels, N states, R
rank of the step size, K taps or experts a token; bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from spellbound.train.plan.shape import Part, Shape

_TILE = {False: 64, True: 32}  # by whether it is a GPU: steps between the states that a scan keeps
_GROUP = {False: 64, True: 32}  # channels that share a partial gradient of B and C
_MOST_GROUPS = 32  # on the CPU; more channels share one there
_WIDE, _HALF, _INDEX = 4, 2, 8  # bytes of float32, bfloat16, int64
_FIRST = ("in_proj", "q_proj", "k_proj", "v_proj")  # what meets a layer's input


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Bytes of a number, and whose kernels run."""

    weights: int
    """In the weights, and between layers."""
    products: int
    """Out of a matrix product; autocast makes it smaller than a weight's."""
    gpu: bool = False
    dropout: bool = False

    @property
    def mixed(self) -> bool:
        """Whether autocast copies weights and inputs into a smaller format."""
        return self.weights != self.products


@dataclass(frozen=True, kw_only=True)
class Step:
    """The rows that go through the model at once."""

    rows: int
    time: int
    """Tokens of a row, padding included."""
    targets: int
    packed: bool = True

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.rows * self.time


@dataclass(frozen=True)
class Operation:
    """One step of the forward pass: what it is the first to keep, and what its backward needs besides.

    What later operations keep is free by then, so a layer's peak is the largest sum up to one operation.
    """

    kind: str
    saved: float
    working: float = 0.0


class Ledger:
    """Writes down the operations of one layer."""

    def __init__(
        self, shape: Shape, part: Part, step: Step, formats: Formats, *, reached: bool = True
    ) -> None:
        """Take what they depend on; not `reached`: nothing before this layer learns."""
        self.shape, self.part, self.step, self.formats = shape, part, step, formats
        self._reached = reached

    def layer(self) -> list[Operation]:
        """All operations of a decoder layer, in forward order."""
        mixer = self._attention() if self.part.attention else self._mamba()
        feed_forward = self._experts() if self.part.experts > 1 else self._dense()
        return [*mixer, *feed_forward]

    def residual(self) -> float:
        """What passes from layer to layer."""
        return self.step.tokens * self.shape.hidden * self.formats.weights

    def large_norm(self, kind: str, *, reached: bool = True) -> Operation:
        """The norm of all of the hidden state; keeps its input."""
        # Gradients of output, input and the path beside.
        return Operation(kind, self.residual() * reached, 3 * self.residual())

    def _plain_norm(self, size: int, bytes_each: int) -> float:
        """Torch's own operations: input and scale in float32, and the result where the weight learns."""
        return self.step.tokens * (size * _WIDE + _WIDE + self.part.trained * size * bytes_each)

    def product(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        wide: bool,
        shared: bool = False,
        copies: int = 1,
        experts: int = 1,
    ) -> float:
        """What a product keeps: its input (`shared`: that another keeps too), weights as autocast copies
        them, and the adapter's narrow middle. `wide`: the input is in the weights' format."""
        formats, tokens = self.formats, self.step.tokens * copies
        rank = self.part.ranks.get(name, 0)
        own_copy = wide and formats.mixed
        saved = 0.0
        if rank and formats.dropout:
            mask = 1 if formats.gpu else (formats.weights if wide else formats.products)
            saved += tokens * inputs * (formats.products + mask)
        elif self.part.keeps(name) and (own_copy or not shared):
            saved += tokens * inputs * formats.products
        if rank:
            saved += tokens * rank * formats.products
            saved += experts * rank * (inputs + outputs) * (_HALF if formats.products == _HALF else 0)
        if formats.mixed and (self._reached or name not in _FIRST):
            saved += experts * inputs * outputs * _HALF
        return saved

    def _mamba(self) -> Iterator[Operation]:
        shape, formats = self.shape, self.formats
        tokens, c = self.step.tokens, formats.products
        H, D, N, R = shape.hidden, shape.channels, shape.states, shape.step_rank
        beside = self.residual()
        yield self.large_norm("Mamba", reached=self._reached)
        in_proj = self.product("in_proj", H, 2 * D, wide=True)
        yield Operation("Mamba", in_proj, beside + tokens * (2 * D * c + H * (c + formats.weights)))
        constants = 0 if formats.gpu else shape.taps * D * _WIDE
        constants += D * _WIDE * (formats.weights == _HALF) * (not formats.gpu)
        # Both halves, for they are one tensor; backward puts the gradients of both together again.
        yield Operation("Mamba", 2 * tokens * D * c + constants, beside + 4 * tokens * D * c)
        x_proj = self.product("x_proj", D, R + 2 * N, wide=False, shared=True)
        narrow = tokens * (R + 2 * N)
        yield Operation("Mamba", tokens * D * c + x_proj, beside + tokens * 4 * D * c + narrow * c)
        yield Operation("Mamba", self._small_norms(), beside + tokens * 3 * D * c + 2 * narrow * _WIDE)
        dt_proj = self.product("dt_proj", R, D, wide=True)
        yield Operation("Mamba", dt_proj, beside + tokens * (3 * D + R) * c)
        groups = ceil(D / _GROUP[formats.gpu])
        groups = groups if formats.gpu else min(_MOST_GROUPS, groups)
        scan = tokens * D * c + 2 * tokens * N * _WIDE + self._scan_states()
        yield Operation("Mamba", scan, beside + tokens * (4 * D * c + 2 * groups * N * _WIDE))
        out_proj = self.product("out_proj", D, H, wide=False)
        yield Operation("Mamba", out_proj, beside + tokens * (D + H) * c)

    def _small_norms(self) -> float:
        """The norms of step size, B and C, whose inputs lie in one tensor."""
        formats, sizes = self.formats, (self.shape.step_rank, self.shape.states, self.shape.states)
        if formats.gpu or not formats.mixed:
            return self.step.tokens * sum(sizes) * formats.products
        return sum(self._plain_norm(size, formats.products) for size in sizes)

    def _scan_states(self) -> float:
        """The states between tiles, and A, twice where it is learnt."""
        shape, step = self.shape, self.step
        states = shape.channels * shape.states
        whole = step.rows * ceil(step.time / _TILE[self.formats.gpu]) * states * _WIDE
        skip = shape.channels * _WIDE * (self.formats.weights == _HALF)
        cut = step.tokens * _WIDE if self.formats.gpu and step.packed else 0
        return whole + states * _WIDE * (1 + self.part.trained) + skip + cut

    def _attention(self) -> Iterator[Operation]:
        shape, tokens, c = self.shape, self.step.tokens, self.formats.products
        hidden, queries, keys = shape.hidden, shape.queries, shape.keys
        beside = self.residual()
        yield self.large_norm("attention", reached=self._reached)
        shared = False
        for name, size in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            saved = self.product(name, hidden, size, wide=True, shared=shared)
            shared = shared or self.part.keeps(name)
            yield Operation("attention", saved, beside + tokens * (queries + 2 * keys + 2 * hidden) * c)
        scores = tokens * ((2 * queries + 2 * keys) * c + shape.heads * _WIDE)
        # One document after another: their parts are put together, so a second output exists.
        together = 2 if self.step.packed else 1
        yield Operation("attention", scores, beside + tokens * together * (2 * queries + 2 * keys) * c)
        o_proj = self.product("o_proj", queries, hidden, wide=False, shared=not self.step.packed)
        yield Operation("attention", o_proj, beside + tokens * (queries + hidden) * c)

    def _dense(self) -> Iterator[Operation]:
        shape, tokens, c = self.shape, self.step.tokens, self.formats.products
        hidden, inner, beside = shape.hidden, shape.inner, self.residual()
        yield self.large_norm("dense")
        gate = self.product("gate_proj", hidden, inner, wide=True)
        yield Operation("dense", gate, beside + tokens * (inner + 3 * hidden) * c)
        up = self.product("up_proj", hidden, inner, wide=True, shared=self.part.keeps("gate_proj"))
        yield Operation("dense", up, beside + tokens * (2 * inner + hidden) * c)
        yield Operation("dense", 2 * tokens * inner * c, beside + 3 * tokens * inner * c)
        down = self.product("down_proj", inner, hidden, wide=False)
        yield Operation("dense", down, beside + tokens * (inner + hidden) * c)

    def _experts(self) -> Iterator[Operation]:
        shape, part, tokens, c = self.shape, self.part, self.step.tokens, self.formats.products
        hidden, inner, beside = shape.hidden, shape.inner, self.residual()
        experts, K = part.experts, shape.experts_a_token
        gradients = part.trained * experts * 3 * hidden * inner * self.formats.weights
        yield self.large_norm("experts")
        router = self.product("router", hidden, experts, wide=True)
        choice = tokens * (experts * _WIDE + K * _INDEX)
        yield Operation("experts", router + choice, beside + tokens * (2 * experts * _WIDE + 2 * hidden * c))
        yield Operation("experts", tokens * K * _INDEX, beside + gradients + 2 * tokens * K * hidden * c)
        first = self.product("gate_up_proj", hidden, 2 * inner, wide=True, copies=K, experts=experts)
        # Gradients of all experts' weights are made one by one, then put together.
        flowing = beside + gradients + tokens * K * c * (2 * hidden)
        yield Operation("experts", first, flowing + gradients)
        one = tokens * K * inner * c / (experts if not self.formats.gpu else 1)
        yield Operation("experts", 2 * tokens * K * inner * c, flowing + gradients + 3 * one)
        second = self.product("down_proj", inner, hidden, wide=False, copies=K, experts=experts)
        yield Operation("experts", second, flowing + gradients / 3 + 2 * one)
        yield Operation("experts", tokens * K * _INDEX, beside + 2 * tokens * K * hidden * c)
        mixed = tokens * K * (hidden + 1) * c
        yield Operation("experts", mixed, beside + tokens * (K + 1) * hidden * c)


def outside(shape: Shape, step: Step, formats: Formats, at_once: int) -> list[Operation]:
    """Embedding, last norm and head, whose logits exist for `at_once` targets at a time."""
    part, X, c = shape.outside, step.targets, formats.products
    ledger = Ledger(shape, part, step, formats)
    rank = part.ranks.get("embed_tokens", 0)
    embedding = step.tokens * (_INDEX * (part.trained or rank > 0) + rank * c)
    at_once = min(at_once, X)
    weight = shape.hidden * shape.vocabulary
    logits = at_once * shape.vocabulary * _WIDE
    flowing = 2 * ledger.residual() + X * shape.hidden * formats.weights
    chosen = X * (shape.hidden * formats.weights + 2 * _INDEX)
    head, working = 0.0, formats.mixed * weight * _HALF
    if "lm_head" not in part.ranks:
        # Gradients are made beside the loss: logits, what they were before, and their slopes.
        head = part.trained * weight * _WIDE
        working += logits + at_once * shape.vocabulary * c + part.trained * weight * max(c, formats.weights)
    elif at_once == X:
        share = X / max(1, step.tokens)
        head = share * ledger.product("lm_head", shape.hidden, 0, wide=True, shared=True)
        head += logits + X * _INDEX + formats.mixed * weight * _HALF
        if formats.mixed or not part.keeps("lm_head"):
            chosen -= X * shape.hidden * formats.weights
        # log-softmax is kept; its gradient, and that of the loss by it, are as large.
        working = 2 * logits
    else:
        working += 3 * logits
    return [
        Operation("embedding", embedding, 0.0),
        ledger.large_norm("head"),
        Operation("head", chosen + head, flowing + working),
    ]


def operations(
    shape: Shape, step: Step, formats: Formats, at_once: int
) -> tuple[list[list[Operation]], list[Operation]]:
    """All operations of each layer, and of what is in none."""
    learns = shape.outside.trained or "embed_tokens" in shape.outside.ranks
    layers = [
        Ledger(shape, part, step, formats, reached=learns or index > 0).layer()
        for index, part in enumerate(shape.layers)
    ]
    return layers, outside(shape, step, formats, at_once)
