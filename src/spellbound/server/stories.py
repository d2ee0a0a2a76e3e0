"""A passage of a story as typed events, so that a front end needs no parser."""

import time
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Any

from spellbound.directives import Character, Close, Event, Open, Repair, StoryPrompt, StreamParser
from spellbound.server.answers import SILENCE, event, refusal
from spellbound.server.bridge import SILENT_S, Feed
from spellbound.server.gate import Permit
from spellbound.server.metrics import Metrics
from spellbound.server.offers import Offer
from spellbound.server.openai_format import seed_of, space_of, usage_object
from spellbound.server.schemas import Story, StoryRequest
from spellbound.server.writing import begun, taken
from spellbound.story.completion import Failed, StoryTold
from spellbound.story.generator import Ending, WriteOptions

Typed = dict[str, Any]


def prompt_of(story: Story) -> StoryPrompt:
    """Return the prompt; DirectiveError for one that cannot be written."""
    characters = []
    for member in story.characters:
        details = member.details or []
        pairs = details.items() if isinstance(details, dict) else ((key, value) for key, value in details)
        characters.append(Character(member.name, member.speaker_id, tuple(pairs)))
    return StoryPrompt(tuple(characters), story.past_story, tuple(story.instructions), story.tags)


def options_of(body: StoryRequest, offer: Offer) -> WriteOptions:
    """Return how the passage is to be written; the constraint holds unless it is turned off."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    given = {
        name: value
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "words", "max_tokens")
        if (value := getattr(body, name)) is not None
    }
    return WriteOptions(
        **given,
        seed=seed_of(body.seed),
        stop=tuple(stop),
        never_speak_as=tuple(body.never_speak_as or ()),
        constrain=body.constrain is not False,
        adapter=offer.adapter,
        space=space_of(body.cache_salt),
    )


class Passage:
    """A passage being written, and its events."""

    def __init__(self, offer: Offer, permit: Permit, metrics: Metrics, arrived: float) -> None:
        """Prepare; nothing is begun before `begin`."""
        self._offer, self._permit, self._metrics, self._arrived = offer, permit, metrics, arrived
        self._feed: Feed[StoryTold] = Feed()
        self._parser = StreamParser()
        self._reported = 0

    async def begin(self, prompt: StoryPrompt, options: WriteOptions) -> bool:
        """Begin to write; raises what keeps it from beginning."""
        self._parser = StreamParser(prompt.characters)
        start = partial(self._offer.completer.start_passage, prompt, options, self._put)
        await taken(await begun(start, self._permit))
        return True

    def _put(self, item: StoryTold) -> None:
        """Take what is told, on the engine's thread; what a passage cost counts though nobody may read it."""
        if isinstance(item, Ending):
            self._metrics.ended(self._offer.base, item.usage)
        self._feed.put(item)

    async def events(self) -> AsyncGenerator[Typed | None]:
        """Yield events to the last one, `done`; None after a long silence."""
        first = True
        while True:
            items = await self._feed.take(SILENT_S)
            if not items:
                yield None
            for item in items:
                if isinstance(item, Failed):
                    raise item.error
                if isinstance(item, Ending):
                    for each in self._end(item):
                        yield each
                    return
                if first:
                    first = False
                    self._metrics.first_text(self._offer.base, time.perf_counter() - self._arrived)
                for each in self._typed(self._parser.feed(item)):
                    yield each

    def _typed(self, events: list[Event]) -> Iterator[Typed]:
        for each in events:
            yield as_typed(each)
        # Tags are whole by now; that a speaker is not in the cast is all that can still be said.
        for repair in self._parser.repairs[self._reported :]:
            yield as_repair(repair)
        self._reported = len(self._parser.repairs)

    def _end(self, ending: Ending) -> Iterator[Typed]:
        yield from self._typed(self._parser.close())
        for repair in ending.repairs:
            yield as_repair(repair)
        yield {"type": "usage", **usage_object(ending.usage)}
        yield {"type": "done", "reason": ending.reason, "words": ending.words, "closed": list(ending.closed)}


def as_typed(each: Event) -> Typed:
    """An event of the directives as JSON; a quote's `speaker` is None if nobody is named."""
    if isinstance(each, Open):
        return {"type": "open", "kind": each.kind, "speaker": each.speaker}
    if isinstance(each, Close):
        return {"type": "close", "kind": each.kind}
    return {"type": "text", "text": each.text}


def as_repair(repair: Repair) -> Typed:
    """What was mended, where in the text, and what to write instead."""
    return {
        "type": "repair",
        "code": repair.code,
        "tag": repair.tag,
        "offset": repair.offset,
        "line": repair.line,
        "column": repair.column,
        "message": repair.message,
    }


async def whole(passage: Passage) -> Typed:
    """Return all events at once."""
    return {
        "object": "story.passage",
        "events": [each async for each in passage.events() if each is not None],
    }


async def streamed(passage: Passage, asked: StoryRequest) -> AsyncGenerator[bytes]:
    """Yield the events as they come; an error in their midst is the last one, of type `error`."""
    try:
        async for each in passage.events():
            yield SILENCE if each is None else event(each, each["type"])
    except Exception as error:  # noqa: BLE001 (told to the client, logged if it is a fault)
        yield event({"type": "error", **refusal(error, asked)}, "error")
