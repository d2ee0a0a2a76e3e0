"""Files in and out: every failure is one clear line, and a file is written whole or not at all."""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spellbound.errors import InputError
from spellbound.files import replacing, resolved, words_of

STDIN = "-"
LOST_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)
"""What a stream says when its reader has gone, its disk is full or its terminal was closed."""


def read_bytes(name: str) -> bytes:
    """Read a file, or the standard input for `-`."""
    try:
        return _standard_input() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read: {words_of(error)}; give a file, or - for the standard input"
        ) from error


def read_text(name: str) -> str:
    """Read UTF-8 text; line ends stay as they are, a byte order mark is left out."""
    return decoded(read_bytes(name), name).removeprefix("\ufeff")


def decoded(content: bytes, name: str) -> str:
    """Return the text of a file; a byte order mark is kept."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}: line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from error


def require_writable(target: Path) -> None:
    """Refuse a place where `replace` could not put a file, before any work is done for it."""
    real = resolved(target)
    if real.is_dir():
        raise InputError(f"{target}: is a directory; give the name of a file")
    if target.exists() and not target.is_file():
        raise InputError(
            f"{target}: is a device or a pipe and not a file; give the name of a file, or none to print"
        )
    folder = real.parent if target.is_symlink() else target.parent
    if not folder.is_dir():
        raise InputError(f"{target}: the directory {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"{target}: the directory {folder} cannot be written to; give another, or change its mode"
        )
    if real.exists() and not os.access(real, os.W_OK):
        raise InputError(f"{target}: is read-only; give another name, or change its mode")


def require_other_file(output: Path, source: str) -> None:
    """Refuse to put a result in the place of what it is made from."""
    if source != STDIN and output.exists() and Path(source).exists() and output.samefile(source):
        raise InputError(f"-o {output}: is {source} itself, which would be lost; give another name")


def replace(target: Path, content: bytes) -> None:
    """Write a file; the new one takes the old one's place in one step, so nobody ever sees half of it."""
    with replacing(target) as draft:
        draft.write_bytes(content)


def free_name(wanted: Path) -> Path:
    """Return the name, or with a number if there is such a file already."""
    number, free = 1, wanted
    while os.path.lexists(free):
        number += 1
        free = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return free


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Wait until no other of our processes changes a file in this one's folder, and keep them waiting.

    The lock is on the folder: the file itself is replaced, and with it a lock on it would be gone.
    """
    try:
        folder = os.open(resolved(target).parent, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{target}: its folder cannot be opened: {words_of(error)}; create it") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise InputError("-: the standard input is closed; give the name of a file")
    return sys.stdin.buffer.read()
