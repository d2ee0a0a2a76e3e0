"""Pairs and thumbs as token ids, as TRL's collators take them: never cut, prompts as in writing."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spellbound.data.ratings.pairs import Pair, Thumb, read_pairs, read_thumbs
from spellbound.errors import InputError
from spellbound.train.encoding import Encoder
from spellbound.train.preferences.settings import PreferenceData, PreferenceMethod

Row = dict[str, Any]
_NAMED = 5
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Encoded rows, and how many were longer than allowed and left out."""

    rows: list[Row]
    """The shortest first, so that little is padded where they are read in order."""
    dropped: int
    tokens: int

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row's longest sequence."""
        return np.array([_longest(row) for row in self.rows], np.int32)


def encoded(
    method: PreferenceMethod, paths: Iterable[Path], data: PreferenceData, encoder: Encoder, seed: int
) -> Rows:
    """Read and encode files of rows.

    InputError if there are none, or if one is longer than `data.length` and such are not to be left out.
    """
    paths = list(paths)
    read: list[Pair | Thumb] = [*(read_pairs(paths) if method == "dpo" else read_thumbs(paths))]
    if not read:
        raise InputError(f"{paths[0]}: has no rows; give a file with some")
    made: list[Row] = []
    for start in range(0, len(read), _AT_ONCE):
        made += _encode(read[start : start + _AT_ONCE], encoder)
    long = [(row["id"], size) for row in made if (size := _longest(row)) > data.length]
    if long and data.overlong == "error":
        named = ", ".join(f"{name} ({size:,})" for name, size in long[:_NAMED])
        raise InputError(
            f"{len(long):,} of {len(made):,} rows are longer than data.length ({data.length:,} tokens):"
            f" {named}; give a greater length, or data.overlong = 'drop' to leave them out"
        )
    kept = [row for row in made if _longest(row) <= data.length]
    if not kept:
        raise InputError(
            f"all {len(made):,} rows are longer than data.length, {data.length:,} tokens; give more"
        )
    random.Random(seed).shuffle(kept)  # those of one length
    kept.sort(key=_longest)
    if method == "kto":
        _mismatch(kept)
        kept.sort(key=_longest)
    return Rows(rows=kept, dropped=len(long), tokens=sum(map(_tokens, kept)))


def _encode(rows: Sequence[Pair | Thumb], encoder: Encoder) -> list[Row]:
    prompts = encoder.prompts([row.prompt.render() for row in rows])
    outputs = [[row.chosen, row.rejected] if isinstance(row, Pair) else [row.completion] for row in rows]
    ids = iter(encoder.letters([output for each in outputs for output in each]))
    made: list[Row] = []
    for row, prompt in zip(rows, prompts, strict=True):
        if isinstance(row, Pair):
            chosen, rejected = [*next(ids), encoder.end_id], [*next(ids), encoder.end_id]
            made.append({"id": row.id, "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
        else:
            completion = [*next(ids), encoder.end_id]
            made.append(
                {"id": row.id, "prompt_ids": prompt, "completion_ids": completion, "label": row.label}
            )
    return made


def _mismatch(rows: list[Row]) -> None:
    """Give each row another's output, from which KTO guesses how far the model has moved in general.

    The next one to another prompt: it is of like length, so a batch meets nearly the outputs that it has.
    """
    for place, row in enumerate(rows):
        behind = (rows[(place + step) % len(rows)] for step in range(1, len(rows)))
        others = (each for each in behind if each["prompt_ids"] != row["prompt_ids"])
        row["KL_completion_ids"] = next(others, rows[place - 1])["completion_ids"]


def _outputs(row: Row) -> list[list[int]]:
    names = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
    return [row[name] for name in names if name in row]


def _longest(row: Row) -> int:
    return len(row["prompt_ids"]) + max(map(len, _outputs(row)))


def _tokens(row: Row) -> int:
    return sum(len(row["prompt_ids"]) + len(output) for output in _outputs(row))
