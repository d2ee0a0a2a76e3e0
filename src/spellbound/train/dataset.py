"""The recipe's files as token ids in the run's folder: made once, and again only if something changed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spellbound.data.examples import Example
from spellbound.errors import InputError
from spellbound.files import creating_folder, words_of
from spellbound.train.encoding import Encoded, Encoder
from spellbound.train.recipe import DataSettings, Overlong, Source
from spellbound.train.tokens import Tokens, TokenWriter, read_tokens

FORMAT = 1
"""Of what is on disk; another number makes every run tokenise anew."""
AT_ONCE = 256
"""Rows that are in memory together."""
HELD_OUT_REMAINDER = 7

Split = Literal["train", "valid"]
Progress = Callable[[str, int], None]
"""(source, samples read so far) -> nothing."""


@dataclass(frozen=True)
class Dataset:
    """What is learnt, what is only measured, and the digests that tell this data from any other."""

    train: Tokens
    valid: Tokens
    digests: dict[str, str]
    """By what decides about the token ids: files, tokenizer, settings."""


@dataclass(frozen=True)
class _Part:
    """One source of the recipe, and where its samples go."""

    source: Source
    kind: Literal["examples", "text"]
    split: Split
    overlong: Overlong
    number: int
    """Among the sources of its split."""


def prepare(settings: DataSettings, encoder: Encoder, folder: Path, progress: Progress) -> Dataset:
    """Tokenise into a folder of its own under `folder`, unless that is done already.

    Raises InputError for files that cannot be read, for overlong samples that the recipe does not allow, and
    if nothing is left to learn.
    """
    parts = _parts(settings)
    digests = _digests(settings, encoder, parts)
    key = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]
    made = folder / key
    if not made.is_dir():
        with creating_folder(made) as draft:
            _tokenise(settings, encoder, parts, draft, progress)
    dataset = Dataset(read_tokens(made / "train"), read_tokens(made / "valid"), digests)
    if not len(dataset.train):
        raise InputError(
            f"data: nothing is left to learn in {', '.join(str(part.source.path) for part in parts)};"
            " give longer rows, fewer held out, or other files"
        )
    return dataset


def held_out(name: str, one_in: int) -> bool:
    """Whether what is cut from this document is kept for measuring, by a stable hash of its id."""
    if not one_in:
        return False
    number = int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16)
    return number % one_in == HELD_OUT_REMAINDER % one_in


def _parts(settings: DataSettings) -> list[_Part]:
    groups: list[tuple[tuple[Source, ...], Literal["examples", "text"], Split]] = [
        (settings.examples, "examples", "train"),
        (settings.text, "text", "train"),
        (settings.validation, "examples", "valid"),
        (settings.validation_text, "text", "valid"),
    ]
    parts: list[_Part] = []
    for sources, kind, split in groups:
        overlong = settings.overlong if kind == "examples" else settings.overlong_text
        for source in sources:
            number = sum(part.split == split for part in parts)
            parts.append(_Part(source, kind, split, overlong, number))
    return parts


def train_sources(settings: DataSettings) -> list[Source]:
    """The sources of what is learnt, in the order of their numbers."""
    return [part.source for part in _parts(settings) if part.split == "train"]


def _digests(settings: DataSettings, encoder: Encoder, parts: list[_Part]) -> dict[str, str]:
    digests = {
        "format": str(FORMAT),
        "tokenizer": encoder.fingerprint(),
        "length": str(settings.length),
        "held_out": str(settings.held_out),
    }
    for part in parts:
        rule = f"{part.overlong} x{part.source.weight!r}"
        digests[f"{part.source.path.name} ({part.split} {part.number})"] = (
            f"{_digest(part.source.path)} {rule}"
        )
    return digests


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file of rows") from error


def _tokenise(
    settings: DataSettings, encoder: Encoder, parts: list[_Part], draft: Path, progress: Progress
) -> None:
    learnt = [part for part in parts if part.split == "train"]
    measured = [part for part in parts if part.split == "valid"]
    with ExitStack() as stack:
        writers: dict[Split, TokenWriter] = {}
        # What is held out comes after the validation files, under its source's own number.
        for split, names in (("train", learnt), ("valid", [*measured, *learnt])):
            (draft / split).mkdir()
            made = TokenWriter(
                draft / split,
                vocabulary=encoder.size,
                length=settings.length,
                names=[part.source.path.name for part in names],
            )
            writers[split] = stack.enter_context(made)  # type: ignore[index]
        for part in parts:
            _tokenise_part(settings, encoder, part, writers, len(measured), progress)
        _refuse_overlong(writers.values(), settings.length)


def _tokenise_part(
    settings: DataSettings,
    encoder: Encoder,
    part: _Part,
    writers: dict[Split, TokenWriter],
    measured: int,
    progress: Progress,
) -> None:
    counts = writers[part.split].counts[part.number]
    licences: set[str] = set()
    samples = enumerate(_encoded(encoder, part), 1)
    for read, (name, origin, licence, weight, encoded) in samples:
        licences.add(licence)
        if read % AT_ONCE == 0:
            progress(counts.name, read)
        kept = part.split == "train" and held_out(origin, settings.held_out)
        counts.held_out += kept
        writers["valid" if kept else part.split].add(
            name,
            encoded,
            source=measured + part.number if kept else part.number,
            weight=weight * part.source.weight,
            overlong=part.overlong,
        )
    counts.licences = sorted(licences - {""})


_Named = tuple[str, str, str, float, Encoded]


def _encoded(encoder: Encoder, part: _Part) -> Iterator[_Named]:
    """Yield id, id of the origin, licence, weight and token ids of each sample."""
    if part.kind == "examples":
        from spellbound.data.rows import read_examples

        for examples in _batched(read_examples([part.source.path])):
            for example, encoded in zip(examples, encoder.examples(examples), strict=True):
                yield example.id, _origin(example), example.licence, example.weight, encoded
    else:
        from spellbound.data.readers import read_documents

        for documents in _batched(read_documents([part.source.path]), 16):
            for document, encoded in zip(
                documents, encoder.documents([each.plain for each in documents]), strict=True
            ):
                if len(encoded.ids) > 2:  # more than its start and end
                    yield document.id, document.id, document.licence, 1.0, encoded


def _origin(example: Example) -> str:
    return example.source or example.id


def _batched(rows: Iterable[Any], size: int = AT_ONCE) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _refuse_overlong(writers: Iterable[TokenWriter], length: int) -> None:
    """Raise InputError if samples fit no row and the recipe has no rule for them."""
    found = [each for writer in writers for each in writer.too_long]
    count = sum(writer.too_long_count for writer in writers)
    if count:
        named = ", ".join(f"{name!r} ({tokens:,} tokens)" for name, tokens in found[:5])
        raise InputError(
            f"data.length {length:,} is too short for {count:,} samples: {named}{', …' if count > 5 else ''};"
            " give longer rows, or set data.overlong (data.overlong_text) to window or drop"
        )
