"""A run's log: one JSON object a line, each with the step it is of, and the same as TensorBoard scalars."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from spellbound.errors import EnvironmentFault
from spellbound.files import replacing, unwritable

Entry = dict[str, Any]
LOG, BOARD = "log.jsonl", "tensorboard"
_SCALARS = {
    "loss": "train/loss",
    "valid": "valid/loss",
    "norm": "train/gradient_norm",
    "margin": "train/margin",
    "valid_margin": "valid/margin",
    "rate": "train/rate",
    "speed": "speed/tokens_per_second",
    "memory": "memory/gib",
}


class Log:
    """Writes entries as they come. What a killed run noted after its last checkpoint is taken out."""

    def __init__(self, folder: Path, until: int, *, tensorboard: bool) -> None:
        """Keep the entries of the first `until` steps, and begin TensorBoard's files anew from them."""
        kept = [entry for entry in read_log(folder) if entry["step"] <= until]
        with replacing(folder / LOG) as draft:
            draft.write_text("".join(f"{_line(entry)}\n" for entry in kept), encoding="utf-8")
        self._path = folder / LOG
        self._file = self._path.open("a", encoding="utf-8")
        shutil.rmtree(folder / BOARD, ignore_errors=True)
        self._board = _board(folder / BOARD) if tensorboard else None
        with _writing(self._path):
            for entry in kept:
                self._show(entry)

    def add(self, step: int, **entry: Any) -> None:
        """Note an entry of this step; InputError if the disk is full."""
        with _writing(self._path):
            self._file.write(f"{_line({'step': step, **entry})}\n")
            self._file.flush()
            self._show({"step": step, **entry})

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the files."""
        with _writing(self._path):
            self._file.close()
            if self._board is not None:
                self._board.close()

    def _show(self, entry: Entry) -> None:
        if self._board is not None:
            for key, name in _SCALARS.items():
                if key in entry:
                    self._board.add_scalar(name, entry[key], entry["step"])


def read_log(folder: Path) -> Iterator[Entry]:
    """Yield a run's entries; a last line that a kill cut off is left out."""
    if not (folder / LOG).is_file():
        return
    with (folder / LOG).open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _line(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise EnvironmentFault(
            "TensorBoard is not installed; run: pip install 'spellbound[train]', or set run.tensorboard=false"
        ) from error
    return SummaryWriter(str(folder))
