"""What a passage is worth, by rules: well-formed, right speakers, instructions followed; how sure that is.

Everything here takes plain values, so that any writer can be measured and the measuring can be tested.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spellbound.data.examples import Example
from spellbound.directives import Character, Close, Event, Open, StreamParser, Text, parse, render
from spellbound.errors import InputError

SURE = 1.96
"""Standard deviations of a 95 % interval."""
RESAMPLES = 4000
_SENTENCE_END = re.compile(r"[.!?…](?:\s|$)|\n")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One written passage, measured."""

    id: str
    """Of the example whose prompt it answers."""
    constrained: bool
    text: str
    well_formed: bool
    """Nothing had to be mended, and every quote is by somebody of the cast."""
    ended: bool
    """The model ended it by itself, before the limit."""
    tags_asked: bool
    quotes: int
    named: int
    """Quotes beside which the narration names one speaker, as in `said Kiri`."""
    wrong_speaker: int
    """Of those, how many carry another's ID."""
    words: int
    followed: tuple[tuple[str, bool], ...]
    """Kind of each instruction's check, and whether it holds."""


def measured(example: Example, text: str, *, mended: int, ended: bool, constrained: bool) -> Passage:
    """Measure what was written for an example's prompt; `mended`: flaws that the generator put right."""
    prompt = example.prompt
    parser = StreamParser(prompt.characters)
    parser.feed(text)
    parser.close()
    events = parse(text)
    named, wrong = speakers_named(events, prompt.characters)
    return Passage(
        id=example.id,
        constrained=constrained,
        text=text,
        well_formed=not mended and not parser.repairs,
        ended=ended,
        tags_asked=prompt.tags,
        quotes=sum(isinstance(event, Open) and event.kind == "quote" for event in events),
        named=named,
        wrong_speaker=wrong,
        words=len(render(events, to="plain").split()),
        followed=tuple((check.kind, check.holds(events)) for check in example.checks),
    )


def speakers_named(events: Sequence[Event], cast: Iterable[Character]) -> tuple[int, int]:
    """Count quotes whose own sentence names exactly one of the cast outside of speech, and those of them with
    another's ID.

    Looked at is the text after the quote up to the end of its sentence, else the text before it from there.
    """
    names = _first_names(cast)
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names)) or '(?!)'})\b")
    named = wrong = 0
    for place, event in enumerate(events):
        if not (isinstance(event, Open) and event.kind == "quote"):
            continue
        end = next((at for at in range(place, len(events)) if isinstance(events[at], Close)), len(events))
        after = _SENTENCE_END.split(_text(events, end + 1), maxsplit=1)[0]
        before = _SENTENCE_END.split(_text(events, place - 1))[-1]
        found = {names[name] for name in pattern.findall(after)}
        if not found and before.rstrip().endswith((",", ":")):
            found = {names[name] for name in pattern.findall(before)}
        if len(found) == 1:
            named += 1
            wrong += event.speaker not in found
    return named, wrong


def _first_names(cast: Iterable[Character]) -> dict[str, str]:
    """Speaker IDs by first name; a name that several have names nobody."""
    firsts = [(word, person.speaker_id) for person in cast for word in person.name.split()[:1]]
    shared = Counter(word for word, _ in firsts)
    return {word: speaker for word, speaker in firsts if shared[word] == 1}


def _text(events: Sequence[Event], place: int) -> str:
    event = events[place] if 0 <= place < len(events) else None
    return event.text if isinstance(event, Text) else ""


def share(part: int, whole: int) -> dict[str, Any]:
    """A share with its 95 % interval (Wilson, J. Am. Stat. Assoc. 22, 1927), all None of nothing."""
    if not whole:
        return {"of": 0, "share": None, "low": None, "high": None}
    mean, z2 = part / whole, SURE**2
    middle = (mean + z2 / (2 * whole)) / (1 + z2 / whole)
    spread = SURE * math.sqrt(mean * (1 - mean) / whole + z2 / (4 * whole**2)) / (1 + z2 / whole)
    low, high = max(0.0, middle - spread), min(1.0, middle + spread)
    return {"of": whole, "share": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def summary(passages: Sequence[Passage]) -> dict[str, Any]:
    """Shares over passages, with their intervals; instructions also by kind."""
    asked: Counter[str] = Counter()
    followed: Counter[str] = Counter()
    for passage in passages:
        for kind, holds in passage.followed:
            asked[kind] += 1
            followed[kind] += holds
    tagged = [passage for passage in passages if passage.tags_asked]
    return {
        "passages": len(passages),
        "words": round(sum(passage.words for passage in passages) / max(1, len(passages)), 1),
        "well-formed": share(sum(passage.well_formed for passage in passages), len(passages)),
        "ended by itself": share(sum(passage.ended for passage in passages), len(passages)),
        "has a quote where tags were asked for": share(sum(p.quotes > 0 for p in tagged), len(tagged)),
        "speaker named beside the quote": share(
            sum(passage.named for passage in passages), sum(passage.quotes for passage in passages)
        ),
        "wrong speaker": share(
            sum(passage.wrong_speaker for passage in passages), sum(passage.named for passage in passages)
        ),
        "instructions followed": share(followed.total(), asked.total()),
        "kinds": {kind: share(followed[kind], asked[kind]) for kind in sorted(asked)},
    }


def worth(passage: Passage) -> float:
    """What a reader who goes by rules thinks of a passage, 0 to 1.

    The share of instructions followed (all, where there were none); a passage that is not well-formed, has a
    wrong speaker or does not end is worth a third of it.
    """
    held = [holds for _, holds in passage.followed]
    kept = sum(held) / len(held) if held else 1.0
    sound = passage.well_formed and passage.ended and not passage.wrong_speaker
    return kept if sound else kept / 3


def gain(before: Sequence[Passage], after: Sequence[Passage], seed: int = 0) -> dict[str, Any]:
    """Mean change of worth from one writer to another over the same prompts, with its 95 % interval.

    Prompts are resampled with both their passages (paired bootstrap). One passage a prompt on each side;
    InputError if no prompt is in both.
    """
    old = {passage.id: worth(passage) for passage in before}
    both = [(old[passage.id], worth(passage)) for passage in after if passage.id in old]
    if not both:
        raise InputError("the two measurements have no prompt in common; evaluate both on the same examples")
    changes = [new - was for was, new in both]
    draw = random.Random(f"gain {seed}")
    means = sorted(sum(draw.choices(changes, k=len(changes))) / len(changes) for _ in range(RESAMPLES))
    return {
        "prompts": len(changes),
        "before": round(sum(was for was, _ in both) / len(both), 4),
        "after": round(sum(new for _, new in both) / len(both), 4),
        "gain": round(sum(changes) / len(changes), 4),
        "low": round(means[int(0.025 * RESAMPLES)], 4),
        "high": round(means[int(0.975 * RESAMPLES)], 4),
    }
