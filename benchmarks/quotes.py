"""How well the annotator `rules` finds quotes and speakers: LitBank's gold quotations, beside two floors.

`python -m benchmarks quotes --corpora FOLDER` reads `litbank_quotes.parquet` there. Two casts: *gold* gives
the annotator the names of the book's speakers; *inferred* lets it find them, and each figure it finds then
stands for at most one gold speaker, the pairs with most quotes in common first.

*Explicit* is a quote in whose narration (of its paragraph, up to the next quotes) a word of the gold
speaker's name and a speech verb stand; articles and titles are no such words. All other quotes are
*other*. *Sure* is a quote that the annotator does not call doubtful. The rules were developed on the books
with an even index. Those with an odd one were only counted, but for a page of three of them (23, 51, 53) that
was read before, to learn the format. *Speaker of two quotes ago* is told the gold speakers before; a book's
first two quotes count as wrong.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import machine
from benchmarks.lines import Line, Machine
from spellbound.data.annotators.rules import SURE, Analysis, Lexicon, analyse, lexicon
from spellbound.data.documents import Person

RESULTS = Path(__file__).parent / "results"
FILE = "litbank_quotes.parquet"
HALVES = {"all": (0, 1), "odd half, held out": (1,), "even half, developed on": (0,)}


@dataclass(kw_only=True)
class Tally:
    """Counts over some books."""

    counts: Counter[str] = field(default_factory=Counter)

    def share(self, part: str, whole: str) -> float:
        """One count over another."""
        return self.counts[part] / max(1, self.counts[whole])

    def f1(self, kind: str) -> float:
        """Harmonic mean of precision and recall."""
        precision, recall = self.share(f"{kind} found", "found"), self.share(f"{kind} gold", "gold")
        return 2 * precision * recall / max(1e-9, precision + recall)


def main(arguments: Sequence[str]) -> None:
    """Measure, print JSON lines, keep them and a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quotes", description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True, help=f"folder that has {FILE}")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for results; default: benchmarks/results"
    )
    given = parser.parse_args(arguments)
    path = given.corpora / FILE
    if not path.is_file():
        sys.exit(f"{path}: no such file; give the folder of the corpora with --corpora")
    here = machine.describe("cpu", "python -m benchmarks quotes --corpora FOLDER")
    lines = list(measure(books(path)))
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / f"quotes_litbank_{here.date}.jsonl"
    kept.write_text("\n".join([here.to_json(), *(line.to_json() for line in lines)]) + "\n", encoding="utf-8")
    kept.with_suffix(".md").write_text(render(here, lines), encoding="utf-8")
    for line in lines:
        print(line.to_json())


def books(path: Path) -> list[dict[str, Any]]:
    """Rows of LitBank: `text` and `quotes` with offsets and speakers."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path, columns=["id", "text", "quotes"]).to_pylist()
    return rows


def measure(rows: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """All figures, for each part of the books."""
    known = lexicon("en")
    tallies = {(name, cast): Tally() for name in HALVES for cast in ("gold", "inferred")}
    begin = perf_counter()
    for number, row in enumerate(rows):
        for cast in ("gold", "inferred"):
            counts = _book(row, known, cast)
            for name, wanted in HALVES.items():
                if number % 2 in wanted:
                    tallies[name, cast].counts += counts
    speed = 2 * sum(len(row["text"]) for row in rows) / (perf_counter() - begin)
    for name in HALVES:
        yield from _detection(name, tallies[name, "inferred"])
        for cast in ("gold", "inferred"):
            yield from _speakers(name, f"rules, {cast} cast", "right", tallies[name, cast], "ours")
            yield _line(name, f"share sure, {cast} cast", "rules", tallies[name, cast].share("sure", "gold"))
            right = tallies[name, cast].share("sure right", "sure")
            yield _line(name, f"speaker accuracy where sure, {cast} cast", "rules", right)
        yield from _speakers(name, "majority speaker", "majority", tallies[name, "gold"], "floor")
        yield from _speakers(name, "speaker of two quotes ago", "two ago", tallies[name, "gold"], "floor")
    yield Line(
        theme="quotes", what="speed", config="all", who="ours", name="rules", unit="characters/s", value=speed
    )


def _detection(name: str, tally: Tally) -> Iterator[Line]:
    for kind in ("exact", "overlap"):
        yield _line(name, f"quotes, {kind}, precision", "rules", tally.share(f"{kind} found", "found"))
        yield _line(name, f"quotes, {kind}, recall", "rules", tally.share(f"{kind} gold", "gold"))
        yield _line(name, f"quotes, {kind}, F1", "rules", tally.f1(kind))


def _speakers(name: str, who: str, key: str, tally: Tally, role: Any) -> Iterator[Line]:
    for kind, whole in (("", "gold"), ("explicit ", "explicit gold"), ("other ", "other gold")):
        value = tally.share(f"{kind}{key}", whole)
        yield _line(name, f"speaker accuracy, {kind.strip() or 'every'} quote", who, value, role)


def _line(part: str, what: str, name: str, value: float, who: Any = "ours") -> Line:
    return Line(theme="quotes", what=what, config=part, who=who, name=name, unit="share", value=value)


def _book(row: dict[str, Any], known: Lexicon, cast: str) -> Counter[str]:
    """Counts of one book."""
    gold: list[dict[str, Any]] = row["quotes"]
    names = {quote["speaker_id"]: quote["speaker_name"] for quote in gold}
    persons = [Person(id=key, name=name) for key, name in names.items()]
    found = analyse(row["text"], known, persons if cast == "gold" else ())
    counts = Counter(_spans(found, gold))
    guesses = _guesses(found, gold)
    if cast == "gold":
        meant = {number: figure.person for number, figure in enumerate(found.figures)}
    else:
        meant = _pairs(guesses, gold)
    majority = Counter(quote["speaker_id"] for quote in gold).most_common(1)
    for number, (quote, guess) in enumerate(zip(gold, guesses, strict=True)):
        speaker = quote["speaker_id"]
        kind = "explicit" if _explicit(row["text"], gold, number, known) else "other"
        right = guess is not None and meant.get(guess[0]) == speaker
        sure = guess is not None and guess[1]
        ago = number > 1 and gold[number - 2]["speaker_id"] == speaker
        counts[f"{kind} gold"] += 1
        for key, true in (("right", right), ("majority", speaker == majority[0][0]), ("two ago", ago)):
            counts[key] += true
            counts[f"{kind} {key}"] += true
        counts["sure"] += sure
        counts["sure right"] += sure and right
    return counts


def _spans(found: Analysis, gold: list[dict[str, Any]]) -> dict[str, int]:
    """How many quotes were found, and how many of them and of the gold ones the other side has too."""
    ours = [(quote.start, quote.end) for quote in found.quotes]
    theirs = [(quote["start"], quote["end"]) for quote in gold]
    same = len(set(ours) & set(theirs))
    return {
        "found": len(ours),
        "gold": len(theirs),
        "exact found": same,
        "exact gold": same,
        "overlap found": sum(_touches(span, theirs) for span in ours),
        "overlap gold": sum(_touches(span, ours) for span in theirs),
    }


def _touches(span: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


Guess = tuple[int, bool] | None
"""A figure, and whether it is no doubtful one."""


def _guesses(found: Analysis, gold: list[dict[str, Any]]) -> list[Guess]:
    """For each gold quote, what we say of our quote that shares most with it."""
    said: dict[int, Guess] = {}
    for turn, choice in zip(found.turns, found.choices, strict=True):
        for number in turn.quotes:
            sure = choice.margin >= SURE and found.quotes[number].sure
            said[number] = None if choice.figure is None else (choice.figure, sure)
    guesses: list[Guess] = []
    for quote in gold:
        shared = {
            number: min(ours.end, quote["end"]) - max(ours.start, quote["start"])
            for number, ours in enumerate(found.quotes)
        }
        best = max(shared, key=lambda number: shared[number], default=-1)
        guesses.append(said[best] if best >= 0 and shared[best] > 0 else None)
    return guesses


def _pairs(guesses: list[Guess], gold: list[dict[str, Any]]) -> dict[int, str]:
    """One gold speaker for each figure and one figure for each speaker, the commonest pairs first."""
    common = Counter(
        (guess[0], quote["speaker_id"])
        for guess, quote in zip(guesses, gold, strict=True)
        if guess is not None
    )
    meant: dict[int, str] = {}
    for (figure, speaker), _ in common.most_common():
        if figure not in meant and speaker not in meant.values():
            meant[figure] = speaker
    return meant


def _explicit(text: str, gold: list[dict[str, Any]], number: int, known: Lexicon) -> bool:
    quote = gold[number]
    start = text.rfind("\n\n", 0, quote["start"]) + 1
    end = text.find("\n\n", quote["end"])
    start = max(start, gold[number - 1]["end"] if number else 0)
    end = min(
        end if end >= 0 else len(text), gold[number + 1]["start"] if number + 1 < len(gold) else len(text)
    )
    beside = [_words(text[start : quote["start"]]), _words(text[quote["end"] : end])]
    name = _words(quote["speaker_name"]) - known.function_words - known.titles.keys()
    return any(words & name and words & known.verbs for words in beside)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def render(here: Machine, lines: Sequence[Line]) -> str:
    """The figures as Markdown: a table for each part of the books."""
    said = (
        f"# Quotes and speakers, {here.date}\n\nLitBank, 100 excerpts of English fiction, 1,765 quotations."
        f" Repeat with `{here.command}`.\n\n{(__doc__ or '').split(chr(10) * 2, 1)[1].strip()}\n"
    )
    parts = [said]
    for config in dict.fromkeys(line.config for line in lines):
        rows = [f"| {line.what} | {line.name} | {_figure(line)} |" for line in lines if line.config == config]
        parts.append("\n".join([f"## {config}\n", "| what | who | |", "|---|---|---:|", *rows]) + "\n")
    return "\n".join(parts)


def _figure(line: Line) -> str:
    if line.value is None:
        return ""
    return f"{100 * line.value:.1f} %" if line.unit == "share" else f"{line.value:,.0f} {line.unit}"
