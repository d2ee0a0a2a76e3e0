"""A second, slow reader of tagged text, written from docs/directives.md one character at a time.

It shares no code with the package, so that the two can be compared on any text.
"""

import string

SPACE = " \t\r\n"
LETTERS = string.ascii_letters
NAME = LETTERS + string.digits + "_:.-"
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
Attributes = list[tuple[str, str | None]]


class Cursor:
    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take_all(self, allowed: str) -> str:
        start = self.at
        while self.peek() and self.peek() in allowed:
            self.at += 1
        return self.text[start : self.at]

    def take_until(self, stop: str) -> str:
        start = self.at
        while self.peek() and self.peek() not in stop:
            self.at += 1
        return self.text[start : self.at]

    def take(self, char: str) -> bool:
        if self.peek() != char:
            return False
        self.at += 1
        return True


def read_value(cursor: Cursor) -> str | None:
    mark = cursor.peek()
    if mark and mark in "\"'":
        cursor.at += 1
        value = cursor.take_until(mark + "<>")
        return value if cursor.take(mark) and len(value) <= 200 else None
    value = cursor.take_until(SPACE + "\"'<>=/")
    return value if 1 <= len(value) <= 200 else None


def read_attributes(cursor: Cursor) -> Attributes | None:
    found: Attributes = []
    while True:
        before = cursor.at
        if not cursor.take_all(SPACE) or not cursor.peek() or cursor.peek() not in LETTERS:
            cursor.at = before
            return found
        name = cursor.take_all(NAME)
        after = cursor.at
        cursor.take_all(SPACE)
        if not cursor.take("="):
            cursor.at = after
            found.append((name, None))
            continue
        cursor.take_all(SPACE)
        value = read_value(cursor)
        if value is None:
            return None
        found.append((name, value))


def read_tag(text: str, at: int) -> tuple[int, str, bool, bool, str | None] | None:
    """End, kind, closing, self-closing and speaker of the tag at a place, or None."""
    cursor = Cursor(text, at + 1)
    cursor.take_all(SPACE)
    closing = cursor.take("/")
    cursor.take_all(SPACE)
    kind = cursor.take_all(LETTERS).lower()
    attributes = read_attributes(cursor)
    cursor.take_all(SPACE)
    self_closing = cursor.take("/")
    cursor.take_all(SPACE)
    if kind not in ("quote", "action", "sound") or attributes is None or not cursor.take(">"):
        return None
    if cursor.at - at > 256:
        return None
    speaker = None
    if kind == "quote" and not closing:
        named = [value for name, value in attributes if name.lower() == "speaker"]
        speaker = (named[0] or "").strip(SPACE) or None if named else None
    return cursor.at, kind, closing, self_closing and not closing, speaker


def read_reference(text: str, at: int) -> tuple[int, str] | None:
    end = text.find(";", at, at + 10)
    if end < 0:
        return None
    body = text[at + 1 : end]
    if body in NAMED:
        return end + 1, NAMED[body]
    digits, base = (body[2:], 16) if body[:2] in ("#x", "#X") else (body[1:], 10)
    allowed = string.hexdigits if base == 16 else string.digits
    if (
        body[:1] != "#"
        or not 1 <= len(digits) <= (6 if base == 16 else 7)
        or any(d not in allowed for d in digits)
    ):
        return None
    code = int(digits, base)
    if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return None
    return end + 1, chr(code)


def read(text: str) -> list[tuple[str, ...]]:
    """Events as tuples: ("open", kind, speaker), ("text", text), ("close", kind); a missing speaker is ""."""
    events: list[tuple[str, ...]] = []
    stack: list[str] = []

    def say(piece: str) -> None:
        if events and events[-1][0] == "text":
            events[-1] = ("text", events[-1][1] + piece)
        else:
            events.append(("text", piece))

    def close_down_to(kind: str) -> None:
        while kind in stack:
            events.append(("close", stack.pop()))

    at = 0
    while at < len(text):
        tag = read_tag(text, at) if text[at] == "<" else None
        reference = read_reference(text, at) if text[at] == "&" else None
        if tag is not None:
            at, kind, closing, self_closing, speaker = tag
            close_down_to(kind)
            if not closing:
                events.append(("open", kind, speaker or ""))
                stack.append(kind)
            if self_closing:
                close_down_to(kind)
        elif reference is not None:
            at, piece = reference
            say(piece)
        else:
            say(text[at])
            at += 1
    while stack:
        events.append(("close", stack.pop()))
    return events
