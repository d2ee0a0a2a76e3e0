"""Writing so that what is on disk is always whole: a draft beside the target, then a rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a draft path in the same folder; it takes the place of `path` if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a draft folder; its files replace those of the same name in `path`, each at once.

    Other files in `path` stay: the model's folder has tokenizer, weights and card from different commands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield draft
        path.mkdir(exist_ok=True)
        for made in sorted(draft.iterdir()):
            made.chmod(0o644)  # safetensors writes for the owner alone
            _sync(made)
            made.replace(path / made.name)
    finally:
        shutil.rmtree(draft)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
