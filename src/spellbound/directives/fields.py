"""The lines `- key: value` of a sheet and `- instruction` of the writing instructions.

A field is one line. What would end the line, or be lost at its edges, is written as a character reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from spellbound.directives.references import decode, encode, numeric

_EDGE = " \t"


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a block as written: its text after the hyphen, not yet decoded, and its offset.

    `hyphen` is False for a line that is no item and has none before it to continue.
    """

    raw: str
    offset: int
    hyphen: bool = True


def encode_field(text: str) -> str:
    """Write any text on one line, so that `decode_field` gives it back."""
    line = encode(text).replace("\n", "&#10;").replace("\r", "&#13;")
    start = numeric(line[0]) if line[:1] and line[0] in _EDGE else line[:1]
    end = numeric(line[-1]) if line[1:] and line[-1] in _EDGE else line[1:][-1:]
    return start + line[1:-1] + end


def encode_key(text: str, reserved: frozenset[str]) -> str:
    """Write any text as a key: without a colon, and not as one of the reserved keys."""
    if text in reserved:
        return numeric(text[0]) + text[1:]
    return encode_field(text).replace(":", "&#58;")


def decode_field(raw: str) -> str:
    """The text of a field as it was written."""
    return decode(raw.strip(_EDGE))


def items(content: str) -> Iterator[Item]:
    """The items of a block; a line without a hyphen continues the item before it after a line feed."""
    current: Item | None = None
    continued: list[str] = []
    offset = 0
    for line in content.split("\n"):
        bare = line.removesuffix("\r").strip(_EDGE)
        place = offset + len(line) - len(line.lstrip(_EDGE))
        offset += len(line) + 1
        if not bare:
            continue
        is_item = bare == "-" or bare[:2] in ("- ", "-\t")
        if current is not None and not is_item:
            continued.append(bare)
            continue
        if current is not None:
            yield _joined(current, continued)
        continued = []
        current = Item(bare[1:].strip(_EDGE) if is_item else bare, place, is_item)
    if current is not None:
        yield _joined(current, continued)


def _joined(item: Item, continued: list[str]) -> Item:
    return replace(item, raw="\n".join([item.raw, *continued])) if continued else item
