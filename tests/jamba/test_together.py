"""Several sequences in one pass: each reads what it would read alone, however they branch."""

import random

import pytest
import torch

from spellbound.errors import ModelError, StateError
from spellbound.jamba import JambaForCausalLM, Piece, SequenceState, new_sequence, read_together, together
from spellbound.jamba.ops.cpp.step import keys_at_once
from spellbound.jamba.sequence import PAGE
from tests.jamba.kernels import needs_library
from tests.jamba.models import VOCABULARY, ours, relative_error

KERNELS = [pytest.param("cpp", marks=needs_library), "torch"]


def cold(model: JambaForCausalLM, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]


def read(model: JambaForCausalLM, ids: list[int], state: SequenceState) -> torch.Tensor:
    (logits_V,) = read_together(model, [Piece(ids, state)])
    assert logits_V is not None
    return logits_V


def draw_ids(draw: random.Random, count: int) -> list[int]:
    return [draw.randrange(3, VOCABULARY) for _ in range(count)]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_any_size_read_forked_and_joined_are_as_read_alone(
    kernels: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kernels)
    monkeypatch.setattr(together, "_GATHERED", PAGE)  # so that the past is taken in several parts
    model, draw = ours().eval(), random.Random(seed)
    branches: list[tuple[SequenceState, list[int]]] = [(new_sequence(model), []) for _ in range(4)]
    compared = 0
    for _ in range(40):
        chosen = [number for number in range(4) if draw.random() < 0.7]
        pieces = [
            Piece(
                draw_ids(draw, draw.choice((1, 1, 1, 2, 40, 300))), branches[number][0], draw.random() < 0.6
            )
            for number in chosen
        ]
        for number, piece, logits_V in zip(chosen, pieces, read_together(model, pieces), strict=True):
            branches[number][1].extend(piece.ids)
            assert (logits_V is None) == (not piece.wanted)
            assert branches[number][0].length == len(branches[number][1])
            if logits_V is not None and draw.random() < 0.3:
                assert relative_error(logits_V, cold(model, branches[number][1])) < 1e-5
                compared += 1
        if draw.random() < 0.4:
            one, other = draw.randrange(4), draw.randrange(4)
            branches[other] = (branches[one][0].fork(), list(branches[one][1]))
    assert compared > 10


@pytest.mark.parametrize("at", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_two_branches_that_part_within_a_page_do_not_write_over_one_another(at: int) -> None:
    model, draw = ours().eval(), random.Random(at)
    past = draw_ids(draw, at)
    stem = new_sequence(model)
    read(model, past, stem)
    branches = [(stem.fork(), draw_ids(draw, 20)) for _ in range(3)]
    for place in range(20):  # in turn and together, a token at a time
        pieces = [Piece([ids[place]], state) for state, ids in branches]
        found = (
            read_together(model, pieces)
            if place % 2
            else [read_together(model, [each])[0] for each in pieces]
        )
        for logits_V, (_, ids) in zip(found, branches, strict=True):
            assert logits_V is not None
            assert relative_error(logits_V, cold(model, past + ids[: place + 1])) < 1e-5
    assert relative_error(read(model, [7], stem), cold(model, [*past, 7])) < 1e-5


def test_going_on_copies_no_page_and_a_fork_shares_all_of_them() -> None:
    model = ours().eval()
    state = new_sequence(model)
    read(model, [5] * (PAGE + 10), state)
    pages = list(state.pages)
    for _ in range(5):
        fork = state.fork()
        assert all(one is other for one, other in zip(fork.pages, state.pages, strict=True))
        read(model, [6], state)
    assert all(one is other for one, other in zip(pages, state.pages, strict=True))
    other = state.fork()
    read(model, [6], state)
    read(model, [7], other)  # comes second
    assert other.pages[0] is state.pages[0]
    assert other.pages[1] is not state.pages[1]
    for each in (state, other):
        assert [page.before for page in each.pages] == [None, each.pages[0]]


def test_a_row_alone_keeps_no_other_rows_in_memory() -> None:
    model = ours().eval()
    states = [new_sequence(model) for _ in range(8)]
    read_together(model, [Piece([9], state) for state in states])
    read_together(model, [Piece([9], state) for state in states])
    alone = states[3].alone()
    assert all(len(row.ssm_BDN) == 1 for row in alone.mamba)
    assert alone.own_bytes == states[3].own_bytes
    assert relative_error(read(model, [4], alone), cold(model, [9, 9, 4])) < 1e-5


@pytest.mark.parametrize("length", [PAGE - 3, PAGE])
def test_a_forward_that_fails_leaves_every_sequence_as_it_was(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, draw = ours().eval(), random.Random(4)
    past = draw_ids(draw, length)
    states = [new_sequence(model) for _ in range(2)]
    for state in states:
        read(model, past, state)
    with monkeypatch.context() as patch:
        patch.setattr(model.lm_head, "forward", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            read_together(model, [Piece(draw_ids(draw, 30), state) for state in states])
    forks = [state.fork() for state in states]
    for state in [*states, *forks]:
        assert state.length == len(past)
        assert relative_error(read(model, [8, 9], state), cold(model, [*past, 8, 9])) < 1e-5
        assert [page.before for page in state.pages] == [None, *state.pages[:-1]]


def test_what_cannot_be_read_is_named() -> None:
    model = ours().eval()
    state = new_sequence(model)
    with pytest.raises(StateError, match="occurs twice"):
        read_together(model, [Piece([1], state), Piece([2], state)])
    with pytest.raises(StateError, match="another model object"):
        read_together(ours(), [Piece([1], state)])
    with pytest.raises(ModelError, match="has no tokens"):
        read_together(model, [Piece([], state)])
    with pytest.raises(ModelError, match=f"token id {VOCABULARY} is outside the vocabulary"):
        read_together(model, [Piece([1, VOCABULARY], state)])
    assert state.length == 0
    with pytest.raises(StateError, match=r"is of torch\.float32, the model now of torch\.bfloat16"):
        read_together(model.to(torch.bfloat16), [Piece([1], state)])


@needs_library
def test_a_page_is_a_multiple_of_what_the_kernel_reads() -> None:
    assert PAGE % keys_at_once() == 0
