"""The tree of what was read: the longest snapshot is found, budgets are kept, spaces do not meet."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from spellbound.engine import Snapshot, StoryCache
from spellbound.engine.cache import Node
from spellbound.errors import ModelError
from spellbound.jamba import JambaForCausalLM, Piece, SequenceState, new_sequence, read_together


def read(model: JambaForCausalLM, ids: list[int], state: SequenceState | None = None) -> Snapshot:
    state = new_sequence(model) if state is None else state
    (logits,) = read_together(model, [Piece(ids, state)])
    return Snapshot(state.fork(), logits)


def without_logits(snapshot: Snapshot) -> Snapshot:
    return Snapshot(snapshot.state, None)


def test_the_longest_snapshot_that_begins_the_prompt_is_found(tiny_model: JambaForCausalLM) -> None:
    cache = StoryCache()
    story = [*range(40, 60)]
    for end in (5, 12, 20):
        cache.put(story[:end], read(tiny_model, story[:end]))
    for length, expected in ((4, 0), (5, 5), (11, 5), (12, 12), (19, 12), (20, 20)):
        found = cache.find(story[:length])
        assert (found.length, found.shared) == (expected, length)
        assert found.snapshot is None if not expected else found.snapshot is not None
    assert cache.find([*story, 7, 8]).length == 20
    other = cache.find([*story[:15], 9, 9])
    assert (other.length, other.shared) == (12, 15)
    assert cache.find([9]).shared == 0


def test_a_prompt_that_ends_with_a_snapshot_needs_its_logits(tiny_model: JambaForCausalLM) -> None:
    cache = StoryCache()
    story = [*range(40, 60)]
    cache.put(story[:8], read(tiny_model, story[:8]))
    cache.put(story[:12], without_logits(read(tiny_model, story[:12])))
    assert cache.find(story[:12]).length == 8
    assert cache.find(story[:13]).length == 12
    cache.put(story[:12], read(tiny_model, story[:12]))
    assert cache.find(story[:12]).length == 12
    cache.put(story[:12], without_logits(read(tiny_model, story[:12])))  # which must not take them away
    assert cache.find(story[:12]).length == 12


def test_spaces_do_not_meet(tiny_model: JambaForCausalLM) -> None:
    cache = StoryCache()
    cache.put([1, 2, 3], read(tiny_model, [1, 2, 3]), "anna")
    assert cache.find([1, 2, 3], "anna").length == 3
    for other in ("", "bert", "anna "):
        found = cache.find([1, 2, 3], other)
        assert (found.snapshot, found.length, found.shared) == (None, 0, 0)
    cache.forget("anna")
    assert cache.find([1, 2, 3], "anna").length == 0
    assert cache.nbytes == 0


def test_shared_pages_are_counted_once_and_all_bytes_come_back(tiny_model: JambaForCausalLM) -> None:
    cache, story = StoryCache(), [random.Random(1).randrange(3, 300) for _ in range(900)]
    state = new_sequence(tiny_model)
    ends = (300, 600, 900)
    for begin, end in zip((0, *ends), ends, strict=False):
        cache.put(story[:end], read(tiny_model, story[begin:end], state))
    page = state.pages[0].nbytes
    own = sum(node.snapshot.own_bytes for node in cache.nodes() if node.snapshot is not None)
    assert cache.nbytes == own + 4 * page
    cache.forget()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_bytes_are_those_of_what_is_held_whatever_forks_and_leaves(tiny_model: JambaForCausalLM) -> None:
    draw, cache = random.Random(3), StoryCache()
    branches: list[tuple[list[int], SequenceState]] = [([], new_sequence(tiny_model))]
    for number in range(60):
        past, state = draw.choice(branches)
        state = state.fork()
        ids = [draw.randrange(3, 300) for _ in range(draw.choice([1, 40, 256, 300]))]
        snapshot = read(tiny_model, ids, state)
        branches.append(([*past, *ids], state))
        cache.put(branches[-1][0], snapshot)
        cache.max_bytes = cache.nbytes if number % 3 else cache.nbytes * 3 // 4
        cache.put([7], read(tiny_model, [7]))
        held = [node.snapshot for node in cache.nodes() if node.snapshot is not None]
        pages = {page for each in held for page in each.state.pages}
        assert cache.nbytes == sum(each.own_bytes for each in held) + sum(page.nbytes for page in pages)
        cache.max_bytes = 1 << 40
    assert cache.evicted > 20
    cache.forget()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_it_keeps_to_its_bytes_and_keeps_what_is_used(tiny_model: JambaForCausalLM) -> None:
    one = read(tiny_model, [1, 2, 3])
    size = one.own_bytes + one.state.pages[0].nbytes
    cache = StoryCache(max_bytes=3 * size)
    for first in range(10, 40):
        cache.put([first, 2, 3], read(tiny_model, [first, 2, 3]))
        assert cache.nbytes <= cache.max_bytes
        assert cache.find([10, 2, 3, 4]).length == 3  # asked for again and again
    assert len(cache) == 3
    assert cache.evicted == 27
    nothing = StoryCache(max_bytes=0)
    nothing.put([1, 2, 3], one)
    assert (len(nothing), nothing.nbytes) == (0, 0)
    with pytest.raises(ModelError, match="-1 bytes"):
        StoryCache(max_bytes=-1)


def test_of_a_long_past_the_places_in_between_leave_first(tiny_model: JambaForCausalLM) -> None:
    state, story = new_sequence(tiny_model), [5] * 512
    cache = StoryCache()
    for begin in range(0, 512, 16):
        cache.put(story[: begin + 16], read(tiny_model, story[begin : begin + 16], state))
    cache.max_bytes = cache.nbytes // 2
    cache.put([9], read(tiny_model, [9]))
    kept = sorted(node.end for node in cache.nodes() if node.snapshot is not None)
    assert kept[-1] == 512
    assert len(kept) < 20


def test_the_tree_is_that_of_the_tokens_whatever_comes_and_goes(tiny_model: JambaForCausalLM) -> None:
    draw, snapshot = random.Random(3), read(tiny_model, [1])
    cache = StoryCache(max_bytes=40 * (snapshot.own_bytes + 8))
    held: dict[tuple[int, ...], Node] = {}

    def all_nodes() -> list[Node]:
        return list(cache.nodes())

    for _ in range(1500):
        ids = [draw.randrange(3) for _ in range(draw.randrange(1, 12))]
        if draw.random() < 0.6:
            cache.put(ids, Snapshot(snapshot.state, torch.zeros(2)))
        else:
            found = cache.find(ids)
            best = max((len(key) for key in held if tuple(ids[: len(key)]) == key), default=0)
            assert found.length == best
        held = {tuple(node.path().tolist()): node for node in all_nodes() if node.snapshot is not None}
        for node in all_nodes():
            assert node.parent is not None
            assert node.parent.children[node.edge[:4]] is node
            assert node.end == len(node.path())
            assert node.held or len(node.children) >= 2
    assert cache.evicted > 0


def test_a_space_of_which_nothing_is_held_leaves_nothing_behind(tiny_model: JambaForCausalLM) -> None:
    cache, snapshot = StoryCache(), read(tiny_model, [1, 2, 3])
    for number in range(10):
        assert cache.find([1, 2, 3], f"salt {number}").length == 0
    assert not cache._roots
    for number in range(10):
        cache.put([1, 2, 3], snapshot, f"salt {number}")
    cache.max_bytes = snapshot.own_bytes + snapshot.state.pages[0].nbytes - 1
    cache.put([1, 2, 3, 4], snapshot, "salt 3")
    assert (len(cache), len(cache._roots)) == (0, 0)
    assert cache.find([1, 2, 3], "salt 3").shared == 0


def worths(cache: StoryCache) -> dict[int, float]:
    """Of each snapshot in memory, by its node, reckoned from all that is there."""
    held = [node for node in cache.nodes() if node.snapshot is not None]
    users = Counter(page for node in held if node.snapshot for page in node.snapshot.state.pages)
    worth = {}
    for node in held:
        assert node.snapshot is not None
        path = node.path().tolist()
        pages = [page for page in node.snapshot.state.pages if users[page] == 1]
        freed = node.snapshot.own_bytes + sum(page.nbytes for page in pages)
        above = [
            each.end for each in held if each.end < node.end and each.path().tolist() == path[: each.end]
        ]
        worth[id(node)] = (node.end - max(above, default=0)) / freed * 2 ** ((node.used - cache._clock) / 256)
    return worth


def test_whatever_leaves_is_worth_least_of_what_is_there(tiny_model: JambaForCausalLM) -> None:
    draw, cache = random.Random(5), StoryCache()
    branches: list[tuple[list[int], SequenceState]] = [([], new_sequence(tiny_model))]
    for _ in range(50):
        past, state = draw.choice(branches[-12:])
        state = state.fork()
        ids = [draw.randrange(3, 300) for _ in range(draw.choice([1, 40, 256, 300]))]
        snapshot = read(tiny_model, ids, state)
        branches.append(([*past, *ids], state))
        cache.put(branches[-1][0], snapshot)
        for _ in range(draw.randrange(3)):
            cache.find(draw.choice(branches)[0])
    left: list[tuple[float, float]] = []
    drop = cache._drop

    def noting(node: Node) -> None:
        worth = worths(cache)
        left.append((worth[id(node)], min(worth.values())))
        drop(node)

    cache._drop = noting  # type: ignore[method-assign]
    cache.max_bytes = cache.nbytes // 8
    cache._trim()
    assert len(left) > 20
    for worth, least in left:
        assert worth == pytest.approx(least, rel=1e-9)


def test_many_leave_in_one_walk(tiny_model: JambaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, snapshot, walks = StoryCache(), read(tiny_model, [1]), []
    for first in range(300):
        cache.put([first, 2], snapshot)
    nodes = StoryCache.nodes

    def walking(cache: StoryCache) -> Iterator[Node]:
        for node in nodes(cache):
            walks.append(node)
            yield node

    monkeypatch.setattr(StoryCache, "nodes", walking)
    one = snapshot.own_bytes
    cache.max_bytes = cache.nbytes - 100 * one
    for first in range(300, 310):
        cache.put([first, 2], snapshot)
    assert cache.evicted >= 110
    assert len(walks) < 1000  # of 310 nodes
    assert cache.nbytes <= cache.max_bytes
