"""What a Jamba remembers of one sequence, in pages: it goes on without copying and branches at no cost.

Mamba states are never written to, only replaced, so a fork shares them. Keys and values lie in pages of
``PAGE`` positions, which are only ever appended to: a fork shares all of them, and the last one is copied by
whoever comes second to write into it.

L attention layers, G key/value heads, P head size, K convolution window, D channels, N states.
"""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor

from spellbound.jamba.ops.cpp.library import POINTER
from spellbound.jamba.ops.cpp.step import Layout, PagedMemory
from spellbound.jamba.state import MambaState

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM

PAGE = 256
"""Positions of a page; a multiple of what one task of the attention kernel reads."""


class Page:
    """Keys and values of ``PAGE`` positions in all attention layers: ``numbers`` (L, 2, G, PAGE, P).

    They follow from everything before them, so a page has one page before it, in whatever sequence it is.
    """

    __slots__ = ("__weakref__", "address", "before", "filled", "numbers")

    def __init__(self, numbers: Tensor, before: "Page | None", filled: int = 0) -> None:
        self.numbers, self.before = numbers, before
        self.address: int = numbers.data_ptr()
        """For the kernels."""
        self.filled = filled
        """Positions that somebody has written or is about to write; what lies before never changes."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole page, filled or not."""
        return self.numbers.nbytes


class MambaRow(NamedTuple):
    """What one sequence remembers in a Mamba layer: a row of the batch it was read in."""

    window_BKD: Tensor
    ssm_BDN: Tensor
    row: int

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return (1, K, D) and (1, D, N)."""
        rows = slice(self.row, self.row + 1)
        return self.window_BKD[rows], self.ssm_BDN[rows]

    def addresses(self) -> tuple[int, int]:
        """Say where the numbers of :meth:`tensors` lie."""
        window, ssm, row = self
        return (
            window.data_ptr() + row * window.stride(0) * window.element_size(),
            ssm.data_ptr() + row * ssm.stride(0) * ssm.element_size(),
        )

    def alone(self) -> "MambaRow":
        """Return one that keeps no other rows in memory."""
        if len(self.ssm_BDN) == 1:
            return self
        window, ssm = self.tensors()
        return MambaRow(window.clone(), ssm.clone(), 0)


class SequenceState:
    """The state of one sequence; made by ``new_sequence``, advanced by ``read_together``.

    A forward that fails leaves it as it was. Forks are independent of one another.
    """

    def __init__(self, model: "JambaForCausalLM", mamba: list[MambaRow], length: int) -> None:
        self.model = model
        self.mamba = mamba
        """One for each Mamba layer."""
        self.pages: list[Page] = []
        self.length = length
        self.dtype = model.dtype
        self._table: ctypes.Array[ctypes.c_void_p] | None = None
        """Addresses of the pages, with room for more; None if it has to be made anew."""

    def fork(self) -> Self:
        """Return a state that goes on from here, while this one stays or goes on elsewhere."""
        other = type(self)(self.model, list(self.mamba), self.length)
        # Not what a forward that failed has claimed beyond: both would write there.
        other.pages = self.pages[: -(-self.length // PAGE)]
        return other

    def alone(self) -> Self:
        """Return a fork whose Mamba states hold no others of a batch in memory."""
        other = self.fork()
        other.mamba = [each.alone() for each in other.mamba]
        return other

    def hold(self, pages: list[Page]) -> None:
        """Take pages that hold the keys and values of all positions read so far."""
        self.pages, self._table = list(pages), None

    def reserve(self, count: int) -> None:
        """Claim room for so many positions behind the last one."""
        inside = self.length % PAGE
        needed = -(-(self.length + count) // PAGE)
        del self.pages[-(-self.length // PAGE) :]  # of a forward that failed
        if inside and self.pages[self.length // PAGE].filled > inside:
            self._replace(self.length // PAGE, inside)
        while len(self.pages) < needed:
            self._append(Page(_new_page(self.model), self.pages[-1] if self.pages else None))
        for number in range(self.length // PAGE, needed):
            self.pages[number].filled = min(PAGE, self.length + count - number * PAGE)

    def advance(self, mamba: list[MambaRow], count: int) -> None:
        """Become the state behind the positions just read."""
        self.__dict__.update(mamba=mamba, length=self.length + count)  # an interrupt finds both or neither

    def write(self, layer: int, keys_TGP: Tensor, values_TGP: Tensor) -> None:
        """Put keys and values of one attention layer behind the last position, where room was reserved."""
        at, end = self.length, self.length + len(keys_TGP)
        while at < end:
            page, inside = self.pages[at // PAGE].numbers[layer], at % PAGE
            count = min(PAGE - inside, end - at)
            part = slice(at - self.length, at - self.length + count)
            page[0, :, inside : inside + count] = keys_TGP[part].transpose(0, 1)
            page[1, :, inside : inside + count] = values_TGP[part].transpose(0, 1)
            at += count

    def gather(self, layer: int, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Return keys and values (1, G, end - begin, P) of positions that begin at a page."""
        pages = [page.numbers[layer] for page in self.pages[begin // PAGE : -(-end // PAGE)]]
        both_2GSP = pages[0] if len(pages) == 1 else torch.stack(pages, 2).flatten(2, 3)
        keys, values = both_2GSP[:, None, :, : end - begin]
        return keys, values

    def table(self) -> "ctypes.Array[ctypes.c_void_p]":
        """Return the addresses of all pages, for the kernels; valid while this state is not changed."""
        if self._table is None:
            room = max(8, 2 * len(self.pages))
            self._table = (POINTER * room)(*(page.address for page in self.pages))
        return self._table

    def fits(self, dtype: torch.dtype) -> bool:
        """Say whether the CPU's kernels can read it beside weights of ``dtype``."""
        return all(
            (window.dtype, ssm.dtype) == (dtype, torch.float32)
            and window.is_contiguous()
            and ssm.is_contiguous()
            for window, ssm, _ in self.mamba
        ) and all(page.numbers.dtype == dtype for page in self.pages[-1:])

    @property
    def own_bytes(self) -> int:
        """Bytes of the Mamba states."""
        return sum(tensor.nbytes for each in self.mamba for tensor in each.tensors())

    def _append(self, page: Page) -> None:
        self.pages.append(page)
        if self._table is not None and len(self._table) >= len(self.pages):
            self._table[len(self.pages) - 1] = page.address
        else:
            self._table = None

    def _replace(self, number: int, inside: int) -> None:
        """Copy a page of which another sequence has taken what follows."""
        taken = self.pages[number]
        page = Page(torch.empty_like(taken.numbers), taken.before, inside)
        page.numbers[:, :, :, :inside] = taken.numbers[:, :, :, :inside]
        self.pages[number], self._table = page, None


def new_sequence(model: "JambaForCausalLM") -> SequenceState:
    """Return the state before the first token."""
    layers = model.model.new_layer_states(1, model.dtype)
    mamba = [MambaRow(each.conv_BKD, each.ssm_BDN, 0) for each in layers if isinstance(each, MambaState)]
    return SequenceState(model, mamba, 0)


def paged(states: Sequence[SequenceState], layer: int) -> PagedMemory:
    """Return where the kernels find an attention layer's keys and values of sequences of one model, up to the
    position behind the last; valid while the states are not changed."""
    tables = [state.table() for state in states]
    stride_layer, stride_values, stride_head, *_ = states[0].pages[0].numbers.stride()
    keys_at = layer * stride_layer
    layout = Layout(keys_at, keys_at + stride_values, PAGE, stride_head)
    return PagedMemory(tables, tables, [state.length + 1 for state in states], layout)


def page_shape(model: "JambaForCausalLM") -> tuple[int, int, int, int, int]:
    """Return (L, 2, G, PAGE, P) of a model's pages."""
    config = model.config
    layers = sum(kind == "attention" for kind in config.layers_block_type)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return layers, 2, config.num_key_value_heads, PAGE, size


def _new_page(model: "JambaForCausalLM") -> Tensor:
    return torch.empty(page_shape(model), dtype=model.dtype, device=model.device)
