"""What is held in chains: the pages of snapshots in memory, the files of those on disk."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Held(Generic[K]):
    """Things and their bytes, each counted once. A thing stands on one other, on which many may stand.

    So one costs what is new to come, and what nobody else stands on to go, however long the chain is.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.nbytes = 0
        self._things: dict[K, tuple[int, K | None]] = {}
        self._users: dict[K, set[K]] = {}

    def __contains__(self, key: object) -> bool:
        """Say whether a thing is held."""
        return key in self._things

    def before(self, key: K) -> K | None:
        """Return what a thing stands on."""
        return self._things[key][1]

    def put(self, key: K, nbytes: int, before: K | None) -> None:
        """Hold a thing, or hold it anew in another size; what it stands on is put, too, before or after."""
        self.nbytes += nbytes - (self._things[key][0] if key in self._things else 0)
        self._things[key] = (nbytes, before)
        if before is not None:
            self._users.setdefault(before, set()).add(key)

    def remove(self, key: K) -> list[K]:
        """Take a thing on which nothing stands away, and what goes with it; return all that."""
        gone = self._goes(key)
        for each in gone:
            nbytes, before = self._things.pop(each)
            self._users.pop(each, None)
            self.nbytes -= nbytes
            if before in self._users:
                self._users[before].discard(each)
        return gone

    def remove_all(self, key: K) -> list[K]:
        """Take a thing away, and everything that stands on it; return that and what went with it."""
        standing = [key]
        for each in standing:
            standing += self._users.get(each, ())
        return [gone for each in reversed(standing) for gone in self.remove(each)]

    def freed(self, key: K) -> int:
        """Return the bytes that go with a thing on which nothing stands."""
        return sum(self._things[each][0] for each in self._goes(key))

    def stays(self, key: K) -> K | None:
        """Return the first thing below it that does not go with it."""
        return self.before(self._goes(key)[-1])

    def alone_on(self, key: K | None) -> K | None:
        """Return the last of the things on a thing, if they are one chain: it frees more than before."""
        while key is not None and (users := self._users.get(key)):
            if len(users) > 1:
                return None
            (key,) = users
        return key

    def _goes(self, key: K) -> list[K]:
        """Return a thing and what is below it, as far as nothing else stands on that; nothing if not held."""
        goes: list[K] = []
        at: K | None = key
        while at in self._things and (not goes or len(self._users[at]) == 1):
            goes.append(at)
            at = self.before(at)
        return goes
