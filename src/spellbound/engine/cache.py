"""What was read before: a tree of tokens whose nodes hold states, so that a turn costs what it adds.

A story is a tree: every turn adds a little at an end, and people write again, undo and fork. Edges are
tokens, held as bytes, of which hundreds of thousands are compared in no time; a node may hold a snapshot,
from which reading goes on. Keys and values lie in pages that all
snapshots of a branch share, so a snapshot costs no more than its Mamba state (arXiv:2411.19379 admits and
evicts alike).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from math import log2
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from spellbound.engine.held import Held, K
from spellbound.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from spellbound.engine.disk import Disk
    from spellbound.jamba import SequenceState
    from spellbound.jamba.sequence import Page

Ids = NDArray[np.int32]
_SIZE = np.dtype(np.int32).itemsize
HALF_LIFE = 256
"""Uses of the cache after which an unused snapshot is worth half."""


@dataclass(eq=False)
class Snapshot:
    """A state that nobody advances any more, and the logits (V) behind its last token if they were made."""

    state: SequenceState
    logits_V: Tensor | None

    @property
    def own_bytes(self) -> int:
        """Bytes that no other snapshot shares: all but the pages."""
        return self.state.own_bytes + (0 if self.logits_V is None else self.logits_V.nbytes)

    @property
    def last_page(self) -> Page | None:
        """The page that its keys and values end in, behind all others; None before the first token."""
        return self.state.pages[-1] if self.state.pages else None


@dataclass(eq=False)
class Node:
    """A place in the tree: the tokens that lead here from the parent, and what is known of it."""

    edge: bytes
    parent: Node | None
    end: int
    """Tokens from the root."""
    children: dict[bytes, Node] = field(default_factory=dict)
    """By the first token of their edges."""
    snapshot: Snapshot | None = None
    """In memory."""
    key: str = ""
    """Of its file, if it is on disk."""
    used: int = 0
    """When it was last made or met, by the cache's own clock."""
    space: str = ""
    """Name of what is kept apart, in its root alone."""

    @property
    def held(self) -> bool:
        """Whether reading can go on from here."""
        return self.snapshot is not None or bool(self.key)

    def path(self) -> Ids:
        """Return all tokens from the root to here."""
        parts, node = [], self
        while node.parent is not None:
            parts.append(node.edge)
            node = node.parent
        return np.frombuffer(b"".join(reversed(parts)), np.int32)


_NOWHERE = Node(b"", None, 0)  # where a space begins of which nothing is known


@dataclass(frozen=True)
class Found:
    """What the tree knows of a prompt."""

    snapshot: Snapshot | None
    length: int
    """Tokens of the prompt that the snapshot has read; 0 without one."""
    shared: int
    """Tokens of the prompt that some earlier one had, too: where they part is worth a snapshot."""


class StoryCache:
    """Snapshots of one model by the tokens they have read, within budgets of memory and, with one, of disk.

    Kept apart by `space` (adapter, user, …): nobody meets what another has read. Not for two threads at once.
    """

    def __init__(self, *, max_bytes: int = 2 * 2**30, disk: Disk | None = None) -> None:
        """Hold at most so many bytes in memory (0 holds nothing); with `disk`, keep snapshots there, too."""
        if max_bytes < 0:
            raise ModelError(f"the story cache was given {max_bytes} bytes; give 0 or more")
        self.max_bytes = max_bytes
        self.disk = disk
        self.evicted = 0
        """Snapshots that had to leave memory so far."""
        self._roots: dict[str, Node] = {}
        self._held: Held[Node | Page] = Held()
        """Snapshots in memory, by their nodes, and the pages that they end in and all before."""
        self._clock = 0
        if disk is not None:
            for name, ids, key in disk.index():
                self._clock += 1
                node = self._place(name, ids)
                node.key, node.used = key, self._clock
            self._trim_disk(disk)

    @property
    def nbytes(self) -> int:
        """Of all snapshots in memory, shared pages counted once."""
        return self._held.nbytes

    def __len__(self) -> int:
        """Return the number of snapshots in memory."""
        return sum(node.snapshot is not None for node in self.nodes())

    def nodes(self) -> Iterator[Node]:
        """Walk over all nodes but the roots, parents first."""
        waiting = [child for root in self._roots.values() for child in root.children.values()]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())

    def find(self, ids: Sequence[int] | Ids, space: str = "") -> Found:
        """Return the longest snapshot that begins `ids`; one that ends with them needs to have its logits."""
        prompt = np.asarray(ids, np.int32).tobytes()
        node, at, path = self._roots.get(_name(space), _NOWHERE), 0, []
        while child := node.children.get(prompt[at : at + _SIZE]):
            if not prompt.startswith(child.edge, at):
                at += _common(child.edge, prompt, at)
                break
            node, at = child, at + len(child.edge)
            path.append(node)
        self._clock += 1
        for node in reversed(path):
            if not node.held or (node.end * _SIZE == len(prompt) and not self._ends(node)):
                continue
            node.used = self._clock
            snapshot = self._load(node)
            if snapshot is not None:
                return Found(snapshot, node.end, at // _SIZE)
        return Found(None, 0, at // _SIZE)

    def put(self, ids: Sequence[int] | Ids, snapshot: Snapshot, space: str = "") -> None:
        """Hold a snapshot of these tokens; the least valuable ones leave if there is no room."""
        self._clock += 1
        name = _name(space)
        node = self._place(name, np.asarray(ids, np.int32))
        node.used = self._clock
        if node.snapshot is None or (node.snapshot.logits_V is None and snapshot.logits_V is not None):
            self._hold(node, snapshot)
        try:
            if self.disk is not None:
                node.key = self.disk.save(name, node.path(), cast("Snapshot", node.snapshot))
                self._trim_disk(self.disk)
        finally:
            self._trim()

    def forget(self, space: str | None = None) -> None:
        """Drop everything of a space, or of all, from memory and disk."""
        for name in [_name(space)] if space is not None else list(self._roots):
            root = self._roots.pop(name, None)
            waiting = list(root.children.values()) if root else []
            while waiting:
                node = waiting.pop()
                waiting.extend(node.children.values())
                self._drop(node)
                self._drop_file(node)

    def flush(self) -> None:
        """Wait until everything that belongs on disk is there."""
        if self.disk is not None:
            self.disk.flush()

    def close(self) -> None:
        """Do what :meth:`flush` does, and write nothing any more."""
        if self.disk is not None:
            self.disk.close()

    # ---- the tree

    def _place(self, name: str, ids: Ids) -> Node:
        """Return the node of these tokens, made if it is not there."""
        path, node, at = ids.tobytes(), self._roots.setdefault(name, Node(b"", None, 0, space=name)), 0
        while at < len(path):
            child = node.children.get(path[at : at + _SIZE])
            if child is None:
                child = node.children[path[at : at + _SIZE]] = Node(path[at:], node, len(ids))
                return child
            if path.startswith(child.edge, at):
                node, at = child, at + len(child.edge)
            else:
                common = _common(child.edge, path, at)
                node, at = _split(child, common), at + common
        return node

    def _prune(self, node: Node) -> None:
        """Take away a node that holds nothing and leads nowhere, and join one with its only child."""
        while node.parent is not None and not node.held and len(node.children) < 2:
            parent = node.parent
            if node.children:
                (child,) = node.children.values()
                child.edge = node.edge + child.edge
                child.parent = parent
                parent.children[node.edge[:_SIZE]] = child
                return
            del parent.children[node.edge[:_SIZE]]
            node = parent
        if node.parent is None and not node.children:
            self._roots.pop(node.space, None)

    # ---- memory

    def _hold(self, node: Node, snapshot: Snapshot) -> None:
        self._let_go(node)
        node.snapshot, page = snapshot, snapshot.last_page
        self._held.put(node, snapshot.own_bytes, page)
        while page is not None and page not in self._held:
            self._held.put(page, page.nbytes, page.before)
            page = page.before

    def _let_go(self, node: Node) -> None:
        """Take a node's snapshot out of memory."""
        self._held.remove(node)
        node.snapshot = None

    def _drop(self, node: Node) -> None:
        self._let_go(node)
        self._prune(node)

    def _trim(self) -> None:
        for node in _leaving(self.nodes(), self._held, self.max_bytes, _in_memory):
            self.evicted += 1
            self._drop(node)

    # ---- disk

    def _ends(self, node: Node) -> bool:
        """Whether a text may end here: the logits behind it are known."""
        if node.snapshot is not None:
            return node.snapshot.logits_V is not None
        return self.disk is not None and self.disk.has_logits(node.key)

    def _load(self, node: Node) -> Snapshot | None:
        """Return a node's snapshot, from disk if it is not in memory; None if its file cannot be used."""
        if node.snapshot is not None:
            return node.snapshot
        loaded = self.disk.load(node.key) if self.disk is not None else None
        if loaded is None:
            if self.disk is None or node.key not in self.disk:
                self._drop_file(node)
            return None
        if self.max_bytes:
            self._hold(node, loaded)
            self._trim()
        return loaded

    def _trim_disk(self, disk: Disk) -> None:
        def on_disk(node: Node) -> str | None:
            return node.key if node.key in disk else None

        for node in _leaving(self.nodes(), disk.held, disk.max_bytes, on_disk):
            self._drop_file(node)

    def _drop_file(self, node: Node) -> None:
        if node.key and self.disk is not None:
            self.disk.remove(node.key)
            node.key = ""
            self._prune(node)


def _in_memory(node: Node) -> Node | None:
    return node if node.snapshot is not None else None


def _leaving(
    nodes: Iterator[Node], held: Held[K], max_bytes: int, key: Callable[[Node], K | None]
) -> Iterator[Node]:
    """Yield what has to leave, each to be dropped before the next one is asked for, the least worth first.

    `key`: of what a node has in this place, None if it has nothing. If anything leaves, all nodes are looked
    at once, afterwards those alone whose worth has changed; one in 64 more leaves than has to, so that a full
    cache does not look at all nodes for every snapshot.
    """
    if held.nbytes <= max_bytes:
        return
    here = {name: node for node in nodes if (name := key(node)) is not None}

    def worth(node: Node) -> float:
        """Tokens that would have to be read again for each byte set free; less, the longer unused.

        As a power of two, so that it stays what it is while the clock goes on.
        """
        ancestor = node.parent
        while ancestor is not None and key(ancestor) is None:
            ancestor = ancestor.parent
        saved = node.end - (0 if ancestor is None else ancestor.end)
        return log2(saved / max(1, held.freed(cast("K", key(node))))) + node.used / HALF_LIFE

    numbers = count()  # of two of one worth the first
    heap = [(worth(node), next(numbers), node) for node in here.values()]
    heapify(heap)
    more = len(heap) // 64
    while heap and (held.nbytes > max_bytes or more > 0):
        known, _, node = heappop(heap)
        if (name := key(node)) is None:
            continue
        if (now := worth(node)) > known:  # what its tokens would have been read on from has left
            heappush(heap, (now, next(numbers), node))
            continue
        more -= held.nbytes <= max_bytes
        stays = held.stays(name)
        yield node
        alone = held.alone_on(stays)
        if alone in here:  # from now on it sets free what it shared
            heappush(heap, (worth(here[alone]), next(numbers), here[alone]))


def _name(space: str) -> str:
    """Return what stands for a space in memory and on disk; a salt should lie around nowhere."""
    return hashlib.sha256(f"space {space}".encode()).hexdigest()[:32]


def shared_length(one: Ids, other: Ids) -> int:
    """Return how many first tokens are the same."""
    size = min(len(one), len(other))
    differ = np.flatnonzero(one[:size] != other[:size])
    return int(differ[0]) if len(differ) else size


def _common(edge: bytes, path: bytes, at: int) -> int:
    """Return how many bytes of an edge follow in a path, in whole tokens."""
    rest = path[at : at + len(edge)]
    return _SIZE * shared_length(np.frombuffer(edge, np.int32), np.frombuffer(rest, np.int32))


def _split(node: Node, at: int) -> Node:
    """Put a node into an edge, so many bytes behind its beginning; return it."""
    parent = cast("Node", node.parent)
    middle = Node(node.edge[:at], parent, node.end - (len(node.edge) - at) // _SIZE)
    parent.children[node.edge[:_SIZE]] = middle
    node.edge, node.parent = node.edge[at:], middle
    middle.children[node.edge[:_SIZE]] = node
    return middle
