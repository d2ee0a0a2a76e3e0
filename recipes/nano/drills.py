"""Write exercises in copying: what a tiny model must do with names and speaker IDs, and no story around it.

On stories alone nano learnt nothing of it (docs/log.md): a name is two tokens in a hundred. Here nearly every
token after the first few stands somewhere before, so that attention has nothing else to learn.
"""

import argparse
import random
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from recipes.nano import console, tokenizer
from spellbound.data.documents import Document
from spellbound.data.readers import write_documents
from spellbound.data.simulator import invented_name
from spellbound.directives import new_speaker_id

CAST_LINES = 8
"""Lines of an exercise with a cast. Repeated tokens are shorter: over a short past, attention that is still
nearly even gives each place enough weight to learn from."""
_CHARACTERS = string.ascii_uppercase + string.digits
_COMMON = range(300, 2000)
"""Ids of frequent tokens: byte pairs are numbered in the order in which they were merged."""
_WORD = re.compile(r"Ġ[a-z]+")
_LINES = (
    '<quote speaker="{id}">{speech},</quote> said {first}.',
    '<quote speaker="{id}">{speech}.</quote> <action>{first} {deed}.</action>',
    "<action>{first} {deed}.</action>",
    '<action>{first} {deed}.</action> <quote speaker="{id}">{speech}!</quote>',
    '<quote speaker="{id}">{speech}?</quote> asked {first}.',
)
_SPEECH = ("Yes", "No", "Come with me", "I know the way", "Not today", "Look at that", "Wait for me", "Go on")
_DEEDS = ("nodded", "smiled", "looked up", "sat down", "laughed", "pointed at the door", "turned round")


def exercises(bpe: Tokenizer, count: int, seed: int) -> Iterator[str]:
    """In turn: repeated characters, repeated common words, a cast that speaks."""
    draw = random.Random(f"drills {seed}")
    words = [bpe.id_to_token(number) or "" for number in _COMMON]
    common = [word[1:] for word in words if _WORD.fullmatch(word)]
    for number in range(count):
        yield (repeated(draw, _CHARACTERS, ""), repeated(draw, common, " "), cast(draw))[number % 3]


def repeated(draw: random.Random, vocabulary: Sequence[str], between: str) -> str:
    """Random pieces, the same again and again; a piece is one token."""
    period = draw.randint(4, 24)
    return between.join(draw.choices(vocabulary, k=period) * draw.randint(2, 5))


def cast(draw: random.Random) -> str:
    """Sheets of invented people, then lines in which each speaks under the right ID."""
    people = [
        {"first": invented_name(draw), "last": invented_name(draw), "id": new_speaker_id(generator=draw)}
        for _ in range(draw.randint(2, 5))
    ]
    sheets = "\n".join("- Name: {first} {last}\n- Speaker ID: {id}".format(**person) for person in people)
    lines = (
        draw.choice(_LINES).format(
            **draw.choice(people), speech=draw.choice(_SPEECH), deed=draw.choice(_DEEDS)
        )
        for _ in range(CAST_LINES)
    )
    return "\n\n".join([sheets, *lines])


def main(arguments: argparse.Namespace) -> None:
    """Writes OUT/data/drills.parquet."""
    bpe = tokenizer.load(arguments.out / "tokenizer").backend_tokenizer
    target: Path = arguments.out / "data" / "drills.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    texts = enumerate(exercises(bpe, arguments.count, arguments.seed))
    rows = (
        Document(id=f"drills/{arguments.seed}/{number}", text=text, language="en", licence="Apache-2.0")
        for number, text in texts
    )
    print(f"{target}: {write_documents(target, rows):,} exercises")


if __name__ == "__main__":
    options = console.parser("drills", __doc__)
    options.add_argument("--count", type=int, default=60_000, help="exercises")
    raise SystemExit(console.run(main, options.parse_args()))
