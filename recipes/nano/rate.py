"""Let simulated readers rate what a model writes: the ratings from which nano's adapter is made.

A reader goes by rules: `measuring.worth` of the passage, moved by a taste of their own and by chance, in
stars. Who asked for a passage rates every answer to that prompt, so that answers can be compared. They stand
in for people, and their consent says so. Some have not agreed to training, and some
take it back, and then their ratings must not count. Writes OUT/data/ratings.jsonl and OUT/data/consent.jsonl.
"""

import argparse
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from recipes.nano import console, writers
from recipes.nano.data import RATED_FROM, require_apart
from recipes.nano.measuring import measured, worth
from spellbound.data.examples import Example
from spellbound.data.ratings import Consent, Flag, Rating, append, user_key
from spellbound.data.simulator import HELD_OUT_FROM, generate
from spellbound.files import replacing_folder

VERSION = "simulated-1"
SECRET = "simulated readers have no account to hide"  # noqa: S105 - nobody is behind these keys
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
READERS, WITHOUT_CONSENT, WITHDRAWN = 40, 4, 4
STARS = 5
TASTE, CHANCE = 0.08, 0.12
"""Standard deviations: of a reader's mildness, and of one opinion."""


def readers() -> list[str]:
    """Keys of the simulated readers."""
    return [user_key(f"simulated reader {number}", SECRET) for number in range(READERS)]


def consents() -> Iterator[Consent]:
    """Who agreed to training; the last of them take it back after all ratings."""
    agreed = readers()[WITHOUT_CONSENT:]
    for user in agreed:
        yield Consent(event="given", user=user, version=VERSION, scopes=("training",), time=BEGIN)
    for user in agreed[-WITHDRAWN:]:
        yield Consent(event="withdrawn", user=user, scopes=("training",), time=BEGIN + timedelta(days=60))


def rating(
    example: Example, number: int, answer: writers.Written, model: str, reader: int, draw: random.Random
) -> Rating:
    """What one reader says of one answer."""
    found = measured(example, answer.text, mended=answer.mended, ended=answer.ended, constrained=True)
    mildness = random.Random(f"reader {reader}").gauss(0, TASTE)
    felt = min(1.0, max(0.0, worth(found) + mildness + draw.gauss(0, CHANCE)))
    flags = [Flag(kind="wrong speaker", line=1)] if found.wrong_speaker else []
    return Rating(
        story=example.source,
        branch="main",
        passage=f"{example.id}/{number}",
        prompt=example.prompt.render(),
        output=answer.text,
        language=example.language,
        model=model,
        score=round(felt * (STARS - 1)) / (STARS - 1),
        raw=1 + round(felt * (STARS - 1)),
        scale=f"stars-{STARS}",
        flags=tuple(flags),
        user=readers()[reader],
        consent=VERSION,
        scopes=("training",),
        time=BEGIN + timedelta(days=1, seconds=draw.randrange(30 * 86_400)),
    )


def main(arguments: argparse.Namespace) -> None:
    """Writes answers and has them rated."""
    require_apart("prompts", arguments.prompts, RATED_FROM, HELD_OUT_FROM)
    model: Path = arguments.model or arguments.out / "sft" / "model"
    examples = list(islice(generate(RATED_FROM, invented_names=0.5), arguments.prompts))
    wanted = [(example, number) for example in examples for number in range(arguments.answers)]
    tasks = [
        writers.Task(
            prompt=example.prompt,
            seed=number,
            constrained=True,
            temperature=arguments.temperature,
            max_tokens=arguments.max_tokens,
        )
        for example, number in wanted
    ]
    written = writers.write_all(tasks, model, None, arguments.processes)
    draw = random.Random(f"ratings {arguments.seed}")
    who = {example.id: draw.randrange(READERS) for example in examples}
    named = console.run_name(model)
    made = [
        rating(example, number, answer, named, who[example.id], draw)
        for (example, number), answer in zip(
            wanted, console.watched(written, "writing", len(tasks)), strict=True
        )
    ]
    folder: Path = arguments.out / "data"
    with replacing_folder(folder) as draft:
        append(draft / "ratings.jsonl", made)
        append(draft / "consent.jsonl", consents())
    mean = sum(each.score for each in made) / max(1, len(made))
    print(f"{folder / 'ratings.jsonl'}: {len(made):,} ratings, mean {mean:.3f}")


if __name__ == "__main__":
    options = console.parser("rate", __doc__)
    console.add_writing(options, temperature=1.0)
    options.add_argument("--model", type=Path, help="model folder; OUT/sft/model if not given")
    options.add_argument("--prompts", type=int, default=1_000, help="prompts to answer")
    options.add_argument("--answers", type=int, default=8, help="answers to each")
    raise SystemExit(console.run(main, options.parse_args()))
