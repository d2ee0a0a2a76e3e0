"""Opens zip files that strangers made: nothing is unpacked to disk, and no bomb goes off."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spellbound.errors import InputError
from spellbound.files import words_of

MOST_FILES = 20_000
LARGEST_FILE = 64 << 20
"""Bytes of one unpacked file."""
LARGEST_WHOLE = 1 << 30
"""Bytes of all files unpacked, by their own account, which is enforced for each that is read."""

_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; InputError if it is broken, or larger than any book."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file that can be") from error
    except (*_BROKEN, ValueError) as error:
        raise InputError(f"{path}: is no whole zip file ({error}); fetch it again") from error
    with archive:
        members = archive.infolist()
        if len(members) > MOST_FILES or sum(each.file_size for each in members) > LARGEST_WHOLE:
            raise InputError(
                f"{path}: unpacks to more than any book has ({len(members)} files); leave it out"
            )
        yield archive


def member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Content of one file in it; InputError if it is missing, locked, broken or too large."""
    try:
        info = archive.getinfo(name)
        if info.file_size > LARGEST_FILE:
            raise InputError(f"{path}: {name} unpacks to {info.file_size} bytes; leave the file out")
        return archive.read(info)
    except KeyError as error:
        raise InputError(f"{path}: has no {name}; make the file again") from error
    except (*_BROKEN, OSError) as error:
        raise InputError(f"{path}: {name} is broken ({error}); fetch the file again") from error
    except RuntimeError as error:  # zipfile's word for a password
        raise InputError(f"{path}: {name} is locked; give a copy without a password") from error
