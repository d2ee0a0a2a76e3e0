"""Exercises in copying: what a tiny model must do with names and speaker IDs, without a story around it.

On stories alone nano learnt nothing of it (docs/log.md): a name is two tokens in a hundred. Here nearly every
learnt token stands somewhere before, so that attention has nothing else to learn.
"""

import random
import string
from collections.abc import Iterator
from collections.abc import Sequence as Choices

import numpy as np
from tokenizers import Tokenizer

from recipes.nano.packing import BOS, EOS, WRITE, Sequence
from spellbound.directives import new_speaker_id

CAST_LENGTH = 200
"""Tokens of an exercise with a cast, about. Repeated tokens are much shorter: over a short past, attention
that is still nearly even gives each place enough weight to learn from."""
_CHARACTERS = string.ascii_uppercase + string.digits
_COMMON = range(300, 1300)
"""Ids of frequent tokens: byte pairs are numbered in the order in which they were merged."""
_ONSETS = (*"bcdfghjklmnprstvwyz", "br", "ch", "dr", "gr", "kl", "sh", "st", "th", "tr")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ee", "io", "ou")
_CODAS = ("", "", "n", "r", "l", "s", "m", "th", "nd", "sk", "x")
_LINES = (
    '<quote speaker="{id}">{speech},</quote> said {first}.',
    '<quote speaker="{id}">{speech}.</quote> <action>{first} {deed}.</action>',
    "<action>{first} {deed}.</action>",
    '<action>{first} {deed}.</action> <quote speaker="{id}">{speech}!</quote>',
    '<quote speaker="{id}">{speech}?</quote> asked {first}.',
)
_SPEECH = ("Yes", "No", "Come with me", "I know the way", "Not today", "Look at that", "Wait for me", "Go on")
_DEEDS = ("nodded", "smiled", "looked up", "sat down", "laughed", "pointed at the door", "turned round")


def exercises(bpe: Tokenizer, count: int, seed: int) -> Iterator[Sequence]:
    """In turn: repeated characters, repeated common tokens, a cast that speaks."""
    draw = random.Random(f"drills {seed}")
    characters = bpe.encode(_CHARACTERS).ids  # one token each: the tokenizer never merges capitals and digits
    for number in range(count):
        yield (repeated(draw, characters), repeated(draw, _COMMON), cast(draw, bpe))[number % 3]


def repeated(draw: random.Random, vocabulary: Choices[int]) -> Sequence:
    """Random tokens, the same again and again; only what repeats is learnt."""
    period = draw.randint(4, 24)
    ids = draw.choices(vocabulary, k=period) * draw.randint(2, 5)
    return Sequence(np.array([BOS, *ids], dtype=np.uint16), period + 1)


def cast(draw: random.Random, bpe: Tokenizer) -> Sequence:
    """Sheets of invented people, then lines in which each speaks under the right ID; the lines are learnt."""
    people = [
        {"first": name(draw), "last": name(draw), "id": new_speaker_id(generator=draw)}
        for _ in range(draw.randint(2, 5))
    ]
    sheets = "\n".join("- Name: {first} {last}\n- Speaker ID: {id}".format(**person) for person in people)
    given = [BOS, *bpe.encode(sheets + "\n\n").ids, WRITE]
    ids = list(given)
    while len(ids) < CAST_LENGTH:
        words = {"speech": draw.choice(_SPEECH), "deed": draw.choice(_DEEDS)}
        ids += bpe.encode(draw.choice(_LINES).format(**draw.choice(people), **words) + "\n\n").ids
    return Sequence(np.array([*ids, EOS], dtype=np.uint16), len(given))


def name(draw: random.Random) -> str:
    """A name that no list has, so that it can only be copied."""
    syllables = draw.randint(1, 3)
    return "".join(
        draw.choice(part) for _ in range(syllables) for part in (_ONSETS, _VOWELS, _CODAS)
    ).capitalize()
