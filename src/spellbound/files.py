"""Files that are whole or not there: a draft beside the target, then a rename. Standard library only.

Every failure of the system becomes one line that names the file and what to do.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spellbound.errors import InputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a draft in the target's folder; it takes the target's place when the block ends well.

    A link stays a link, and a file that was there keeps its mode. InputError if the system refuses.
    """
    draft: Path | None = None
    try:
        real = resolved(target)
        # A short name of its own: with the target's in it, it could be too long.
        handle, name = tempfile.mkstemp(dir=real.parent, prefix=".spellbound.", suffix=".tmp")
        os.close(handle)
        draft = Path(name)
        yield draft
        draft.chmod(real.stat().st_mode & 0o777 if real.exists() else 0o666 & ~_umask())
        _sync_file(draft)
        draft.replace(real)
        _sync_folder(real.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield a draft folder; its files then replace those of the same name in the target, each at once.

    Other files of the target stay. InputError if the system refuses.
    """
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".spellbound.", suffix=".tmp"))
        yield draft
        target.mkdir(exist_ok=True)
        for made in sorted(draft.iterdir()):
            made.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
            _sync_file(made)
            made.replace(target / made.name)
        _sync_folder(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def creating_folder(target: Path) -> Iterator[Path]:
    """Yield a draft folder, which becomes the target in one step when the block ends well.

    There must be no such folder yet. Folders in the draft are kept. InputError if the system refuses.
    """
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".spellbound.", suffix=".tmp"))
        yield draft
        for made in sorted(draft.rglob("*")):
            if made.is_dir():
                _sync_folder(made)
            else:
                made.chmod(0o666 & ~_umask())
                _sync_file(made)
        draft.chmod(0o777 & ~_umask())
        _sync_folder(draft)
        draft.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def resolved(target: Path) -> Path:
    """Follow links; InputError for a name that no file can have."""
    try:
        real = target.resolve()
        real.exists()
    except (OSError, RuntimeError) as error:  # Python 3.11 says a loop of links with a RuntimeError
        reason = words_of(error) if isinstance(error, OSError) else "its links lead in a circle"
        raise InputError(f"{target}: cannot be a file: {reason}; give another name") from error
    return real


def unwritable(target: Path, error: OSError) -> InputError:
    """What to raise when the system does not let a file be written."""
    return InputError(
        f"{target}: cannot be written: {words_of(error)}; make room there, or give another place"
    )


def words_of(error: OSError) -> str:
    """Say in words what the system said."""
    return (error.strerror or str(error)).lower()


def _umask() -> int:
    """Return the mask of new files; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_file(path: Path) -> None:
    with path.open("r+b") as written:  # Windows has no fsync of a file open for reading alone
        os.fsync(written.fileno())


def _sync_folder(path: Path) -> None:
    """Make renames in a folder last; Windows opens no folders."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
