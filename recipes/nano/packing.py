"""Documents of token ids -> rows of equal length on disk, and back as tensors.

Three arrays of one shape (rows, length), so that any row is read on its own and no index can go stale:
tokens.bin (uint16), documents.bin (uint16: which document of its row a token belongs to), learn.bin (uint8:
whether the loss counts this token as a target). meta.json holds the shape and the report.
R rows, T time.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.nano.files import replacing_folder
from spellbound.errors import InputError

PAD, BOS, EOS, WRITE = range(4)
"""Ids of the special tokens, fixed by the order in which the tokenizer is trained."""
OPEN_ROWS = 32
"""Rows kept open while packing: enough to fill most of them, few enough to keep the order nearly as given."""
IGNORED = -100


@dataclass(frozen=True)
class Sequence:
    """Token ids of one document, of which the first `given` are context without loss."""

    ids: NDArray[np.uint16]
    given: int = 1


@dataclass(frozen=True)
class Rows:
    """Packed rows (R, T), read from disk as they are asked for."""

    tokens: NDArray[np.uint16]
    documents: NDArray[np.uint16]
    learn: NDArray[np.uint8]
    meta: dict[str, Any]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.tokens)

    def batch(self, indices: Iterable[int]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` (-100 where no loss is wanted) and `document_ids` of these rows, int64."""
        chosen = np.fromiter(indices, dtype=np.int64)
        tokens = torch.from_numpy(self.tokens[chosen].astype(np.int64))
        learn = torch.from_numpy(self.learn[chosen].astype(np.bool_))
        documents = torch.from_numpy(self.documents[chosen].astype(np.int64))
        return {"input_ids": tokens, "labels": tokens.masked_fill(~learn, IGNORED), "document_ids": documents}


def cut(sequence: Sequence, length: int) -> Iterator[Sequence]:
    """Pieces of at most `length` tokens; each repeats the last token before it: none goes unlearnt."""
    ids = sequence.ids
    start = 0
    while start == 0 or start < len(ids) - 1:
        yield Sequence(ids[start : start + length], max(1, sequence.given - start))
        start += length - 1


def pack(sequences: Iterable[Sequence], length: int) -> Iterator[list[Sequence]]:
    """Rows of whole sequences, each in the fullest open row that holds it; none may exceed `length`."""
    open_rows: list[tuple[int, list[Sequence]]] = []
    for sequence in sequences:
        size = len(sequence.ids)
        if size > length:
            raise ValueError(f"a sequence of {size} tokens does not fit a row of {length}; cut it first")
        fitting = [place for place, (used, _) in enumerate(open_rows) if used + size <= length]
        if fitting:
            place = max(fitting, key=lambda place: open_rows[place][0])
            used, row = open_rows[place]
            open_rows[place] = (used + size, [*row, sequence])
            continue
        if len(open_rows) == OPEN_ROWS:
            fullest = max(range(OPEN_ROWS), key=lambda place: open_rows[place][0])
            yield open_rows.pop(fullest)[1]
        open_rows.append((size, [sequence]))
    yield from (row for _, row in open_rows)


def write(folder: Path, rows: Iterable[list[Sequence]], length: int, pad: int, report: dict[str, Any]) -> int:
    """Writes the rows and the report; returns how many rows there are."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    count = learnt = used = 0
    with replacing_folder(folder) as draft:
        with (
            (draft / "tokens.bin").open("wb") as tokens_file,
            (draft / "documents.bin").open("wb") as documents_file,
            (draft / "learn.bin").open("wb") as learn_file,
        ):
            for row in rows:
                tokens_T, documents_T, learn_T = arrays(row, length, pad)
                tokens_file.write(tokens_T.tobytes())
                documents_file.write(documents_T.tobytes())
                learn_file.write(learn_T.tobytes())
                count += 1
                learnt += int(learn_T.sum())
                used += sum(len(sequence.ids) for sequence in row)
        meta = {"rows": count, "length": length, "tokens": used, "learnt_tokens": learnt, **report}
        (draft / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")
    return count


def arrays(
    row: list[Sequence], length: int, pad: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
    """Tokens, document numbers and learn marks of one row; what is left over is padding, a document too."""
    tokens_T = np.full(length, pad, dtype=np.uint16)
    documents_T = np.full(length, len(row), dtype=np.uint16)
    learn_T = np.zeros(length, dtype=np.uint8)
    start = 0
    for number, sequence in enumerate(row):
        end = start + len(sequence.ids)
        tokens_T[start:end] = sequence.ids
        documents_T[start:end] = number
        # A document's first token has nothing before it that may predict it.
        learn_T[start + max(1, sequence.given) : end] = 1
        start = end
    return tokens_T, documents_T, learn_T


def read(folder: Path) -> Rows:
    """The rows in this folder, mapped into memory; an error that names the command which makes them."""
    if not (folder / "meta.json").is_file():
        raise InputError(f"no packed rows in '{folder}'; make them with: python -m recipes.nano.data")
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    shape = (int(meta["rows"]), int(meta["length"]))
    if not shape[0]:
        raise InputError(f"'{folder}' holds no rows; run python -m recipes.nano.data with more documents")
    if (folder / "tokens.bin").stat().st_size != 2 * shape[0] * shape[1]:
        raise InputError(f"'{folder}/tokens.bin' is not as meta.json says; run python -m recipes.nano.data")
    return Rows(
        np.memmap(folder / "tokens.bin", dtype=np.uint16, mode="r", shape=shape),
        np.memmap(folder / "documents.bin", dtype=np.uint16, mode="r", shape=shape),
        np.memmap(folder / "learn.bin", dtype=np.uint8, mode="r", shape=shape),
        meta,
    )
