"""Files in and out: every failure is one clear line, and a file is written whole or not at all."""

import os
import sys
import tempfile
from pathlib import Path

from spellbound.errors import InputError

STDIN = "-"


def read_bytes(name: str) -> bytes:
    """Read a file, or the standard input for `-`."""
    if name == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {_reason(error)}") from error


def read_text(name: str) -> str:
    """Read UTF-8 text; line ends stay as they are, a byte order mark is left out."""
    content = read_bytes(name)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}: line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from error


def require_writable(target: Path) -> None:
    """Refuse a place where `replace` could not put a file, before any work is done for it."""
    if target.is_dir():
        raise InputError(f"{target}: is a directory; give the name of a file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the directory {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target}: the directory {target.parent} cannot be written to")
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{target}: cannot be written to")


def replace(target: Path, content: bytes) -> None:
    """Write a file; the new one takes the old one's place in one step, so nobody ever sees half of it."""
    target = target.resolve()  # a link stays a link
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        Path(temporary).replace(target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(f"{target}: cannot be written: {_reason(error)}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the mask of new files; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    """Say in words what the system said."""
    return (error.strerror or str(error)).lower()
