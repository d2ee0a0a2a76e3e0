"""Preference pairs from chats: the answer that was kept against those that were swiped away.

Nobody rated these, and a swipe can have other reasons than quality: such pairs say that they are implicit.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator

from spellbound.data.documents import PARAGRAPH
from spellbound.data.fields import Provenance
from spellbound.data.ratings.pairs import Pair
from spellbound.data.ratings.rated import row_id
from spellbound.data.readers.chat import Chat, Siblings
from spellbound.directives import Character, StoryPrompt, Text, new_speaker_id, render


def swipe_pairs(
    chats: Iterable[Chat], *, per_place: int = 4, language: str = "", licence: str = ""
) -> Iterator[Pair]:
    """Yield pairs for each place of a chat where several answers were offered, the greeting apart.

    Chats are plain prose, and so the prompts ask for no tags. At most `per_place` pairs come from one place,
    the first that were swiped away.
    """
    for chat in chats:
        cast = _cast(chat)
        for place in chat.siblings():
            if place.before:
                prompt = _prompt(chat, cast, place)
                for rejected in place.rejected[:per_place]:
                    yield _pair(chat, prompt, place.chosen, rejected, language, licence)


def _cast(chat: Chat) -> tuple[Character, ...]:
    """Return the chat's people with IDs that are the same in every build."""
    rng = random.Random(chat.id)
    taken: list[str] = []
    for _ in chat.cast:
        taken.append(new_speaker_id(taken, rng))
    return tuple(
        Character(person.name, speaker_id, person.details)
        for person, speaker_id in zip(chat.cast, taken, strict=True)
    )


def _prompt(chat: Chat, cast: tuple[Character, ...], place: Siblings) -> StoryPrompt:
    names = {person.id: person.name for person in chat.cast}
    past = PARAGRAPH.join(
        f"{names[message.speaker]}: {message.text}" if message.speaker else message.text
        for message in place.before
    )
    who = names.get(place.speaker, "")
    instruction = f"Write what {who} says and does next." if who else "Write what happens next."
    return StoryPrompt(cast, _markup(past), (instruction,), tags=False)


def _pair(chat: Chat, prompt: StoryPrompt, chosen: str, rejected: str, language: str, licence: str) -> Pair:
    parts = (prompt.render(), chosen, rejected)
    return Pair(
        id=row_id("swipe", *(hashlib.blake2b(part.encode(), digest_size=16).digest() for part in parts)),
        prompt=prompt,
        chosen=_markup(chosen),
        rejected=_markup(rejected),
        margin=0.0,
        implicit=True,
        language=language,
        source=f"chat-{hashlib.blake2b(chat.id.encode(), digest_size=8).hexdigest()}",
        licence=licence,
        provenance=Provenance(annotator="swipes"),
    )


def _markup(text: str) -> str:
    return render([Text(text)], to="tagged")
