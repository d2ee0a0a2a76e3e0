"""Who is in: so many texts of one client at a time, and none once the server ends."""

import asyncio
from collections import Counter
from collections.abc import Callable

from spellbound.server.errors import ApiError

Cancel = Callable[[], None]


class Gate:
    """Counts requests that are worked on. For the event loop alone."""

    def __init__(self, max_per_client: int) -> None:
        """Let in so many of each client."""
        self._most = max_per_client
        self._clients: Counter[str] = Counter()
        self._works: set[Permit] = set()
        self._ending: asyncio.TimerHandle | None = None
        self.draining = False
        """Whether the server ends and takes no more."""

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self._works)

    @property
    def uses_adapters(self) -> bool:
        """Whether a request of any adapter is in."""
        return any(permit.adapter is not None for permit in self._works)

    def enter(self, client: str, texts: int = 1, adapter: str | None = None) -> "Permit":
        """Let a request in, or refuse it with 429 or 503.

        One of more texts than a client may have is let in while the client has no other.
        """
        if self.draining:
            raise ApiError(503, "the server is shutting down; try again later", code="shutting_down")
        if (held := self._clients.get(client, 0)) and held + texts > self._most:
            raise ApiError(
                429,
                f"{held} texts of yours are worked on already, and with {texts} more they would be above"
                f" {self._most}; wait for some to end",
                code="too_many_requests",
            )
        permit = Permit(self, client, texts, adapter)
        self._clients[client] += texts
        self._works.add(permit)
        return permit

    def leave(self, permit: "Permit") -> None:
        """Forget a request."""
        self._works.discard(permit)
        self._clients[permit.client] -= permit.texts
        if not self._clients[permit.client]:
            del self._clients[permit.client]

    def drain(self, grace_s: float) -> None:
        """Take no more; after the grace end what is still worked on."""
        self.draining = True
        self._ending = asyncio.get_running_loop().call_later(grace_s, self._cancel_all)

    def _cancel_all(self) -> None:
        for permit in list(self._works):
            permit.cancel()


class Permit:
    """One request's stay."""

    def __init__(self, gate: Gate, client: str, texts: int, adapter: str | None) -> None:
        self._gate = gate
        self.client, self.texts, self.adapter = client, texts, adapter
        self._works: list[Cancel] = []
        self._left = self._cancelled = False

    def holds(self, cancel: Cancel) -> None:
        """Note what ends a work of this request."""
        self._works.append(cancel)
        if self._cancelled or self._left:
            cancel()

    def cancel(self) -> None:
        """End its works; their ends are told."""
        self._cancelled = True
        for cancel in self._works:
            cancel()

    def close(self) -> None:
        """End its works and leave."""
        if not self._left:
            self._left = True
            self.cancel()
            self._gate.leave(self)
