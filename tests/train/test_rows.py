"""Packing and order: nothing lost, nothing twice, and the same whoever asks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spellbound.errors import InputError
from spellbound.train.batches import GRAIN, NO_TARGET, collate, shares
from spellbound.train.recipe import Batching
from spellbound.train.rows import Order, best_fit
from spellbound.train.tokens import SAMPLE, Counts, Tokens, windows

LENGTH = 32
lengths_lists = st.lists(st.integers(2, LENGTH), min_size=1, max_size=60)


def tokens_of(lengths: list[int], sources: int = 1) -> Tokens:
    samples = np.zeros(len(lengths), dtype=SAMPLE)
    samples["length"] = lengths
    samples["start"] = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    samples["given"] = [max(1, length // 3) for length in lengths]
    samples["weight"] = [1 + place % 3 for place in range(len(lengths))]
    samples["source"] = [place % sources for place in range(len(lengths))]
    ids = np.arange(sum(lengths), dtype=np.uint16) % 250 + 3
    return Tokens(ids, samples, tuple(Counts(name=str(number)) for number in range(sources)))


def order_of(tokens: Tokens, batching: Batching = "packed", **changes: object) -> Order:
    given: dict[str, object] = {"repeats": [1.0] * len(tokens.counts), "batch": 4, "seed": 3, **changes}
    return Order(tokens, length=LENGTH, batching=batching, **given)  # type: ignore[arg-type]


@given(lengths_lists)
def test_best_fit_loses_nothing_and_overfills_nothing(lengths: list[int]) -> None:
    rows = best_fit(np.array(lengths, dtype=np.int32), LENGTH)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    used = [sum(lengths[place] for place in row) for row in rows]
    assert max(used) <= LENGTH
    # No two rows would have gone into one: more than half of every row but one is used.
    assert sum(each * 2 <= LENGTH for each in used) <= 1


@given(lengths_lists, st.sampled_from(["packed", "padded"]), st.integers(0, 3))
def test_an_epoch_has_every_sample_once(lengths: list[int], batching: Batching, epoch: int) -> None:
    tokens = tokens_of(lengths)
    rows = order_of(tokens, batching).rows(epoch)
    assert sorted(rows.members.tolist()) == list(range(len(lengths)))
    assert all(tokens.lengths[rows[row]].sum() <= LENGTH for row in range(len(rows)))


@given(lengths_lists, st.sampled_from(["packed", "padded"]))
def test_the_order_follows_from_seed_and_epoch_and_the_first_batch_is_the_largest(
    lengths: list[int], batching: Batching
) -> None:
    tokens = tokens_of(lengths)
    one, other = order_of(tokens, batching), order_of(tokens, batching)
    total = one.total_steps(2)
    # Asked in another order, too: nothing depends on what was asked before.
    backwards = {step: other.at(step) for step in reversed(range(total))}
    for step in range(total):
        epoch, rows = one.at(step)
        assert epoch == backwards[step][0]
        assert [row.tolist() for row in rows] == [row.tolist() for row in backwards[step][1]]
        if step in (0, one.steps(0)):
            longest = max(int(tokens.lengths[row].sum()) for row in rows)
            everywhere = one.rows(epoch)
            assert longest == max(
                int(tokens.lengths[everywhere[row]].sum()) for row in range(len(everywhere))
            )


@pytest.mark.parametrize("count", [257, 510, 513])
def test_the_longest_comes_first_wherever_the_pools_end(count: int) -> None:
    for place in range(0, count, 37):
        lengths = [8] * count
        lengths[place] = LENGTH
        tokens = tokens_of(lengths)
        order = order_of(tokens, "padded")
        assert tokens.lengths[np.concatenate(order.at(0)[1])].max() == LENGTH
        assert sorted(order.rows(0).members.tolist()) == list(range(count))


def test_epochs_and_seeds_differ() -> None:
    tokens = tokens_of([10] * 40)
    orders = [order_of(tokens, seed=seed).rows(epoch).members.tolist() for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_repeats_may_be_fractions() -> None:
    tokens = tokens_of([4] * 4000, sources=2)
    order = order_of(tokens, "padded", repeats=[2.25, 0.5])
    counts = np.bincount(order.rows(0).members, minlength=4000)
    first, second = counts[0::2], counts[1::2]
    assert set(first) == {2, 3}
    assert set(second) == {0, 1}
    assert abs(first.mean() - 2.25) < 0.05
    assert abs(second.mean() - 0.5) < 0.05
    again = np.bincount(order.rows(1).members, minlength=4000)
    assert (counts != again).any()


def test_an_epoch_without_samples_is_an_error() -> None:
    order = order_of(tokens_of([4]), repeats=[1e-9])
    with pytest.raises(InputError, match="epoch 1 has no samples"):
        order.at(0)


def test_samples_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(2, LENGTH, 400).tolist()
    tokens = tokens_of(lengths)
    order = order_of(tokens, "padded")
    spread = [np.ptp(tokens.lengths[np.concatenate(order.at(step)[1])]) for step in range(order.steps(0))]
    assert np.mean(spread) < 2


@given(
    st.integers(2, 400).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length - 1))),
    st.integers(8, 64),
)
def test_windows_learn_every_target_once(sample: tuple[int, int], row: int) -> None:
    length, given_tokens = sample
    learnt: list[int] = []
    for start, size, given_here in windows(length, given_tokens, row):
        assert start >= 0
        assert start + size <= length
        assert 1 <= given_here < size <= row
        learnt += range(start + given_here, start + size)
    assert learnt == list(range(max(1, given_tokens), length))


@given(lengths_lists, st.booleans())
def test_a_batch_says_what_comes_next_and_never_across_samples(lengths: list[int], packed: bool) -> None:
    tokens = tokens_of(lengths)
    order = order_of(tokens, "packed" if packed else "padded")
    _, rows = order.at(0)
    batch = collate(tokens, rows, pad_id=0, packed=packed)
    assert batch.input_ids_BT.shape[1] % GRAIN == 0
    assert (batch.documents_BT is not None) == packed
    total = 0.0
    for place, row in enumerate(rows):
        at = 0
        for sample in tokens.samples[row]:
            ids = tokens.ids[sample["start"] : sample["start"] + sample["length"]].tolist()
            expected = [*[NO_TARGET] * (sample["given"] - 1), *ids[sample["given"] :], NO_TARGET]
            assert batch.input_ids_BT[place, at : at + len(ids)].tolist() == ids
            assert batch.targets_BT[place, at : at + len(ids)].tolist() == expected
            total += sample["weight"] * (len(ids) - sample["given"])
            at += len(ids)
        assert (batch.targets_BT[place, at:] == NO_TARGET).all()
    wanted = batch.targets_BT >= 0
    assert float(batch.weights_BT[wanted].sum()) == total == tokens.weights(np.concatenate(rows))
    assert not (batch.muted().targets_BT >= 0).any()


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 4))
def test_processes_share_rows_in_equally_many_turns(count: int, processes: int, at_once: int) -> None:
    rows = [np.array([number]) for number in range(count)]
    given_to = [shares(rows, rank=rank, processes=processes, at_once=at_once) for rank in range(processes)]
    assert len({len(turns) for turns in given_to}) == 1
    counted = [int(row[0]) for turns in given_to for part, counts in turns if counts for row in part]
    assert sorted(counted) == list(range(count))
    assert all(part for turns in given_to for part, _ in turns)
    assert all(len(part) <= (at_once or count) for turns in given_to for part, _ in turns)
