"""All texts of one request: begun, told as they come, ended together."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from spellbound.errors import EngineBusy
from spellbound.server.bridge import SILENT_S, Feed, ended
from spellbound.server.gate import Permit
from spellbound.server.metrics import Metrics
from spellbound.server.offers import Offer
from spellbound.story.completion import Completed, CompletionOptions, Failed, Piece, Prompt, Work
from spellbound.story.generator import Usage

Told = tuple[int, Piece | Completed | Failed]
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """Several texts of one prompt."""

    prompt: Prompt
    options: CompletionOptions
    count: int

    def number(self, index: int) -> CompletionOptions:
        """Return the options of one of them: each has a seed of its own."""
        return replace(self.options, seed=(self.options.seed + index) % 2**63)


async def begun(start: Callable[[], Work], permit: Permit) -> Work:
    """Begin a work on a thread, since reading a long prompt takes time; the permit ends it."""

    def start_and_hold() -> Work:
        work = start()
        loop.call_soon_threadsafe(permit.holds, work.cancel)
        return work

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, start_and_hold)


async def taken(*works: Work) -> None:
    """Wait until works are taken on; raises what keeps one from that, so that a status can tell it.

    Who takes long to say is not waited for: a stream has to begin before somebody on the way loses patience.
    """
    told = [asyncio.wrap_future(work.taken) for work in works]
    await asyncio.wait(told, timeout=SILENT_S)
    for each in told:
        if each.done() and (error := each.result()) is not None:
            raise error


class Writing:
    """The texts of a request, as (index, what is told). The first of each prompt reads it for the others."""

    def __init__(
        self, offer: Offer, jobs: Sequence[Job], permit: Permit, metrics: Metrics, arrived: float
    ) -> None:
        """Prepare; nothing is begun before `begin`."""
        self._offer, self._permit = offer, permit
        self._metrics, self._arrived = metrics, arrived
        self._feed: Feed[Told] = Feed()
        self._followers: list[asyncio.Task[None]] = []
        self._offsets = [0, *accumulate(job.count for job in jobs)]
        self._leading = dict(zip(self._offsets, jobs, strict=False))
        """Jobs of which the first text alone has begun, by its index."""
        self.count = self._offsets.pop()
        """Of all texts."""
        self.usage = Usage()
        """Of all that have ended; each prompt counts once."""

    async def begin(self) -> bool:
        """Begin the first text of each prompt; raises what keeps it from beginning."""
        await taken(*[await self._start(job, 0, index) for index, job in self._leading.items()])
        return True

    async def told(self) -> AsyncGenerator[tuple[int, Piece | Completed] | None]:
        """Yield what comes of each text, to the last Completed; None after a long silence."""
        left, begun_texts = set(range(self.count)), set[int]()
        try:
            while left:
                items = await self._feed.take(SILENT_S)
                if not items:
                    yield None
                for index, item in items:
                    if isinstance(item, Failed):
                        raise item.error
                    self._follow(index)
                    if isinstance(item, Completed):
                        left.discard(index)
                        self._count(index, item)
                    elif index not in begun_texts:
                        begun_texts.add(index)
                        self._metrics.first_text(self._offer.base, time.perf_counter() - self._arrived)
                    yield index, item
        finally:
            await ended(*self._followers)

    def _follow(self, index: int) -> None:
        """Begin the other texts of a prompt once its first has read it."""
        job = self._leading.pop(index, None)
        if job is None:
            return
        for each in range(1, job.count):
            self._followers.append(asyncio.create_task(self._start_later(job, each, index + each)))

    async def _start_later(self, job: Job, each: int, index: int) -> None:
        try:
            while True:
                try:
                    await self._start(job, each, index)
                except EngineBusy:
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return
        except Exception as error:  # noqa: BLE001 (told to whoever reads)
            self._feed.put((index, Failed(error)))

    async def _start(self, job: Job, each: int, index: int) -> Work:
        put = partial(self._put, index)
        start = partial(self._offer.completer.start, job.prompt, job.number(each), put)
        return await begun(start, self._permit)

    def _count(self, index: int, item: Completed) -> None:
        usage, so_far = item.usage, self.usage
        leads = index in self._offsets
        self.usage = replace(
            so_far,
            prompt_tokens=so_far.prompt_tokens + usage.prompt_tokens * leads,
            reused_tokens=so_far.reused_tokens + usage.reused_tokens * leads,
            reuse_known=so_far.reuse_known and usage.reuse_known,
            written_tokens=so_far.written_tokens + usage.written_tokens,
        )

    def _put(self, index: int, item: Piece | Completed | Failed) -> None:
        """Take what is told, on the engine's thread; what a text cost counts though nobody may read it."""
        if isinstance(item, Completed):
            self._metrics.ended(self._offer.base, item.usage)
        self._feed.put((index, item))
