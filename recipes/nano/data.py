"""Make the training rows: corpora and simulated stories -> token ids -> packed rows, and a report on them.

Pretraining learns every token of its documents. SFT learns completions only, given the prompt. Held-out
documents (5 % by hash of the id) and the simulator's unseen seeds go into rows of their own, for validation.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from recipes.nano import console, corpora, drills, packing, renaming, simulated, tokenizer
from recipes.nano.files import replacing
from recipes.nano.packing import BOS, EOS, PAD, WRITE, Sequence


@dataclass(frozen=True)
class Share:
    """How much of a collection is used."""

    repeats: int
    """How many times its documents occur."""
    characters: int | None = None
    """At most this many, in pieces spread over the collection; None for whole documents."""


# By the beginning of the collection's name, first match. Simple stories are few and are what the model should
# sound like, so they occur several times; novels give words. Other languages: so that they are not noise.
SHARES = {
    "simple_en": Share(4),
    "fairytales_en": Share(2),
    "eltec_en": Share(1, 6_000_000),
    "simple_": Share(2),
}
PIECE = 2000
"""Characters of a piece of a novel, up to the end of the paragraph."""


@dataclass
class Source:
    """One line of the report."""

    documents: int = 0
    tokens: int = 0
    repeats: int = 1
    licenses: set[str] = field(default_factory=set)

    def row(self) -> dict[str, Any]:
        """The line as plain values."""
        return {**asdict(self), "licenses": sorted(self.licenses)}


def pieces(text: str, size: int = PIECE) -> list[str]:
    """The text cut after the paragraph that passes `size` characters, and so on."""
    made: list[str] = []
    paragraphs: list[str] = []
    length = 0
    for paragraph in text.split("\n\n"):
        paragraphs.append(paragraph)
        length += len(paragraph) + 2
        if length >= size:
            made.append("\n\n".join(paragraphs))
            paragraphs, length = [], 0
    return made if not paragraphs else [*made, "\n\n".join(paragraphs)]


def plain(bpe: Tokenizer, text: str) -> Sequence:
    """A document that is learnt whole."""
    return Sequence(np.array([BOS, *bpe.encode(text).ids, EOS], dtype=np.uint16))


def told(bpe: Tokenizer, prompt: str, completion: str) -> Sequence:
    """A prompt as context and its completion to learn."""
    given = [BOS, *bpe.encode(prompt).ids, WRITE]
    return Sequence(np.array([*given, *bpe.encode(completion).ids, EOS], dtype=np.uint16), len(given))


def from_corpora(
    bpe: Tokenizer, folder: Path, seed: int, report: dict[str, Source], *, held_out: bool
) -> Iterator[Sequence]:
    """Documents of the collections that have a share, each as often as its share says."""
    for collection in corpora.collections(folder):
        share = next((share for start, share in SHARES.items() if collection.startswith(start)), None)
        if share is None:
            continue
        source = report.setdefault(collection, Source(repeats=1 if held_out else share.repeats))
        for document in _chosen(folder, collection, share, seed, held_out=held_out):
            sequence = plain(bpe, document.text)
            source.documents += 1
            source.tokens += len(sequence.ids)
            source.licenses.add(document.license)
            yield from [sequence] * source.repeats


def _chosen(
    folder: Path, collection: str, share: Share, seed: int, *, held_out: bool
) -> Iterator[corpora.Document]:
    documents = (d for d in corpora.read(folder, collection) if corpora.held_out(d.id) == held_out)
    if share.characters is None:
        yield from documents
        return
    cut = [(document, piece) for document in documents for piece in pieces(document.text)]
    random.Random(f"{seed} {collection}").shuffle(cut)
    room = share.characters // (20 if held_out else 1)
    for document, piece in cut:
        room -= len(piece)
        if room < 0:
            return
        yield corpora.Document(**{**asdict(document), "text": piece})


def from_simulator(
    bpe: Tokenizer, examples: Iterable[simulated.Example], length: int, source: Source
) -> Iterator[Sequence]:
    """Prompts and completions that fit a row; those that do not are left out, never cut."""
    source.licenses.add(simulated.LICENSE)
    for example in examples:
        sequence = told(bpe, example.prompt.render(), example.completion)
        if len(sequence.ids) <= length:
            source.documents += 1
            source.tokens += len(sequence.ids)
            yield sequence


def shuffled(sequences: Iterable[Sequence], length: int, seed: int) -> list[Sequence]:
    """Every sequence cut to the length of a row, in random order."""
    cut = [piece for sequence in sequences for piece in packing.cut(sequence, length)]
    random.Random(seed).shuffle(cut)
    return cut


def write_rows(
    folder: Path, sequences: list[Sequence], length: int, report: dict[str, Source]
) -> dict[str, Any]:
    """Packs and writes; returns what the report says of these rows."""
    sources = {name: source.row() for name, source in sorted(report.items()) if source.documents}
    rows = packing.write(folder, packing.pack(sequences, length), length, PAD, {"sources": sources})
    meta = packing.read(folder).meta
    print(f"{folder}: {rows} rows of {length}, {meta['tokens']:,} tokens, {meta['learnt_tokens']:,} learnt")
    return meta


def pretraining(bpe: Tokenizer, options: argparse.Namespace, *, held_out: bool) -> dict[str, Any]:
    """Rows of whole documents: the corpora's, and simulated stories with their prompts."""
    report: dict[str, Source] = {}
    sequences = list(from_corpora(bpe, options.corpora, options.seed, report, held_out=held_out))
    if not held_out:
        source = report.setdefault("simulator", Source())
        # Seeds after those of SFT: a story is met whole once, and as an exercise another time.
        examples = simulated.training(options.pretrain_stories, first=options.sft_stories)
        told_whole = from_simulator(bpe, examples, options.pretrain_length, source)
        sequences += [Sequence(sequence.ids) for sequence in told_whole]
    name = "pretrain_valid" if held_out else "pretrain"
    cut = shuffled(sequences, options.pretrain_length, options.seed)
    return write_rows(options.out / "data" / name, cut, options.pretrain_length, report)


def tuning(bpe: Tokenizer, options: argparse.Namespace, *, held_out: bool) -> dict[str, Any]:
    """Rows of simulated prompts and completions."""
    source = Source()
    if held_out:
        found = simulated.unseen(options.valid_stories)
    else:
        stories = simulated.training(options.sft_stories, first=options.sft_first)
        found = renaming.renamed(stories, options.renamed, options.seed)
    sequences = list(from_simulator(bpe, found, options.sft_length, source))
    random.Random(options.seed).shuffle(sequences)
    name = "sft_valid" if held_out else "sft"
    return write_rows(options.out / "data" / name, sequences, options.sft_length, {"simulator": source})


def drilling(bpe: Tokenizer, options: argparse.Namespace, *, held_out: bool) -> dict[str, Any]:
    """Rows of exercises in copying."""
    count, seed = (200, options.seed + 1) if held_out else (options.drills, options.seed)
    sequences = list(drills.exercises(bpe, count, seed))
    tokens = sum(len(sequence.ids) for sequence in sequences)
    source = Source(documents=count, tokens=tokens, licenses={simulated.LICENSE})
    name = "drill_valid" if held_out else "drill"
    cut = shuffled(sequences, options.pretrain_length, options.seed)
    return write_rows(options.out / "data" / name, cut, options.pretrain_length, {"drills": source})


STAGES = {"pretrain": pretraining, "drill": drilling, "sft": tuning}
"""What makes the rows of each stage."""


def as_markdown(made: dict[str, dict[str, Any]]) -> str:
    """The report as one table."""
    lines = ["| rows | source | documents | tokens | repeats | licence |", "|---|---|---:|---:|---:|---|"]
    for name, meta in made.items():
        for source, row in meta["sources"].items():
            figures = f"{row['documents']:,} | {row['tokens']:,} | {row['repeats']}"
            lines.append(f"| {name} | {source} | {figures} | {', '.join(row['licenses'])} |")
    return "\n".join(lines) + "\n"


def main(arguments: argparse.Namespace) -> None:
    """Writes OUT/data/{pretrain,sft}{,_valid} and OUT/data/report.{json,md}."""
    corpora.collections(arguments.corpora)
    bpe = tokenizer.load(arguments.out / "tokenizer").backend_tokenizer
    path = arguments.out / "data" / "report.json"
    made = json.loads(path.read_text(encoding="utf-8")) if arguments.only and path.is_file() else {}
    for name, make in STAGES.items():
        if arguments.only in (None, name):
            made[name] = make(bpe, arguments, held_out=False)
            made[f"{name}_valid"] = make(bpe, arguments, held_out=True)
    with replacing(path) as draft:
        draft.write_text(json.dumps(made, indent=1, ensure_ascii=False), encoding="utf-8")
    with replacing(arguments.out / "data" / "report.md") as draft:
        draft.write_text(as_markdown(made), encoding="utf-8")


if __name__ == "__main__":
    options = console.parser("data", __doc__)
    console.add_corpora(options)
    options.add_argument("--only", choices=tuple(STAGES), help="make the rows of one stage again")
    options.add_argument("--pretrain-length", type=int, default=512, help="tokens in a row of pretraining")
    options.add_argument("--sft-length", type=int, default=1536, help="tokens in a row of SFT")
    options.add_argument(
        "--pretrain-stories", type=int, default=10_000, help="simulated stories in pretraining"
    )
    options.add_argument("--drills", type=int, default=16_000, help="exercises in copying")
    options.add_argument("--renamed", type=float, default=0.6, help="share of SFT with invented names")
    options.add_argument("--sft-first", type=int, default=0, help="first seed of SFT")
    options.add_argument("--sft-stories", type=int, default=20_000, help="simulated stories in SFT")
    options.add_argument(
        "--valid-stories", type=int, default=200, help="unseen stories for the validation loss"
    )
    raise SystemExit(console.run(main, options.parse_args()))
