"""Texts that a PNG picture carries: tEXt, zTXt and iTXt chunks, by keyword."""

import struct
import zlib
from collections.abc import Iterator

from spellbound.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_TEXT = 32 << 20
"""Bytes of one text once unpacked."""


def png_texts(content: bytes, place: object) -> dict[str, str]:
    """Return the texts by keyword, of two the first.

    Raises InputError naming the place for a file that is no PNG, is cut off, or has a damaged text.
    """
    if not content.startswith(SIGNATURE):
        raise InputError(f"{place}: is no PNG; give the picture as it was exported")
    found: dict[str, str] = {}
    for kind, data, intact in _chunks(content, place):
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        keyword, _, rest = data.partition(b"\0")
        if not intact:
            raise InputError(f"{place}: the text {keyword[:20]!r} is damaged (checksum); export it again")
        found.setdefault(keyword.decode("latin-1"), _text(kind, rest, f"{place}: text {keyword[:20]!r}"))
    return found


def _chunks(content: bytes, place: object) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, data and whether the checksum is right, up to the end chunk."""
    at = len(SIGNATURE)
    while at < len(content):
        head = content[at : at + 8]
        length = int.from_bytes(head[:4])
        end = at + 8 + length
        if len(head) < 8 or end + 4 > len(content):
            raise InputError(f"{place}: the PNG is cut off at byte {at}; fetch it again")
        kind, data = head[4:], content[at + 8 : end]
        (checksum,) = struct.unpack(">I", content[end : end + 4])
        yield kind, data, zlib.crc32(kind + data) == checksum
        if kind == b"IEND":
            return
        at = end + 4


def _text(kind: bytes, rest: bytes, place: str) -> str:
    try:
        if kind == b"tEXt":
            return rest.decode("latin-1")
        if kind == b"zTXt":
            return _unpacked(rest[1:], place).decode("latin-1")
        # After the two bytes that say how it is packed: language tag, translated keyword, text.
        _, _, text = rest[2:].split(b"\0", 2)
        return (_unpacked(text, place) if rest[:1] == b"\1" else text).decode()
    except (ValueError, zlib.error) as error:
        raise InputError(f"{place} is damaged ({error}); export it again") from error


def _unpacked(data: bytes, place: str) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, LARGEST_TEXT)
    if unpacker.unconsumed_tail:
        raise InputError(f"{place} unpacks to more than {LARGEST_TEXT} bytes; leave the file out")
    return text
