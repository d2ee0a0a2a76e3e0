"""The pen between a model and a reader: only well-formed text leaves it, and it knows when to stop."""

import re
from collections import deque
from collections.abc import Sequence

from spellbound.directives import Close, Event, Kind, Open, Renderer, Repair, StreamParser, Text
from spellbound.story.stops import StopStrings

_RUN = re.compile(r"\s+|\S+")
_SENTENCE_END = re.compile(r"[.!?…؟。！？][\"'”’»“)\]]*\Z")
_LEAST_SLACK = 40


class Pen:
    """Takes what a model writes, in any pieces; gives the tagged text that may be shown.

    Tags leave in their canonical spelling, white space only when something follows it. With a number of
    words, `done` turns true at the first good place to stop after that many: the end of a paragraph, a
    little later the end of a sentence, at more than twice as many words any place at all.
    """

    def __init__(self, words: int | None = None, stop: Sequence[str] = ()) -> None:
        """Write at least so many words, no more after a stop string; None: `done` comes by those alone."""
        self._goal = words
        self._stops = StopStrings(stop)
        self._uncertain: deque[Event] = deque()
        """What a stop string may still reach, from its text on."""
        self._slack = max(_LEAST_SLACK, (words or 0) // 5)
        self._parser = StreamParser()
        self._renderer = Renderer("tagged")
        self._open: list[Kind] = []
        self._space: list[str] = []
        self._in_word = False
        self._last = ""
        self.words = 0
        """Words of the text so far, tags not counted."""
        self.done = False
        """Whether to stop here; what is still fed is ignored."""
        self.closed: tuple[str, ...] = ()
        """Kinds of tags that `finish` had to close, innermost first."""
        self.repairs: list[Repair] = []
        """What was mended in the written text; known after `finish`."""

    @property
    def wants_more(self) -> bool:
        """Whether fewer words are written than asked for."""
        return self._goal is not None and self.words < self._goal

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended the text."""
        return self._stops.found is not None

    def write(self, text: str) -> str:
        """Take some more text; return what of it is certain."""
        out = self._put(self._before_stop(self._parser.feed(text)))
        self.done = self.done or self.stopped
        return out

    def finish(self, *, cut: bool) -> str:
        """End the text: return what was held back and the closing tags that are missing.

        With `cut` the text was broken off: the beginning of a tag or a reference at its end is left out, and
        that tags are still open is nobody's mistake; a stop string breaks it off, too. Otherwise both are
        mended and on record.
        """
        rest = self._parser.close() if not cut and not self.stopped else []
        out = self._put(self._before_stop([event for event in rest if isinstance(event, Text)]))
        out += self._put(self._certain(len(self._stops.finish())))
        self.repairs = list(self._parser.repairs)
        self.closed = tuple(reversed(self._open))
        self.done = True
        return out + self._renderer.close()

    def _before_stop(self, events: list[Event]) -> list[Event]:
        """Return what no stop string can reach any more; those are looked for in the text, across tags."""
        certain: list[Event] = []
        for event in events:
            if self.stopped:
                break
            self._uncertain.append(event)
            certain += self._certain(len(self._stops.feed(event.text)) if isinstance(event, Text) else 0)
        return certain

    def _certain(self, characters: int) -> list[Event]:
        """Take events with so many characters of text from those that waited, and the tags behind them."""
        taken: list[Event] = []
        while self._uncertain:
            event = self._uncertain[0]
            if isinstance(event, Text):
                if characters < len(event.text):
                    taken += [Text(event.text[:characters])] if characters else []
                    self._uncertain[0] = Text(event.text[characters:])
                    break
                characters -= len(event.text)
            taken.append(self._uncertain.popleft())
        return taken

    def _put(self, events: list[Event]) -> str:
        """Write events as tagged text, up to the place to stop."""
        out: list[str] = []
        for event in events:
            if self.done:
                break
            if isinstance(event, Text):
                text = self._until_done(event.text)
                if kept := text.rstrip():
                    out.append(self._renderer.write([*self._held_space(), Text(kept)]))
                self._space.append(text[len(kept) :])
            else:
                out.append(self._renderer.write([*self._held_space(), event]))
                self._note_tag(event)
        return "".join(out)

    def _held_space(self) -> list[Event]:
        """White space that waited for what follows it."""
        space, self._space = self._space, []
        return [Text("".join(space))]

    def _note_tag(self, event: Open | Close) -> None:
        """Follow what is open."""
        if isinstance(event, Open):
            self._open.append(event.kind)
        else:
            self._open.pop()
        # Speech is rarely the end of its sentence: "she said" may follow.
        if event.kind == "quote":
            self._last = ""

    def _until_done(self, text: str) -> str:
        """Count the words of a text and cut it where to stop."""
        for match in _RUN.finditer(text):
            run = match[0]
            if not run.isspace():
                self.words += not self._in_word
                self._last = (self._last + run)[-8:] if self._in_word else run[-8:]
                self._in_word = True
                continue
            self._in_word = False
            if self._good_place(run):
                self.done = True
                return text[: match.start()]
        return text

    def _good_place(self, space: str) -> bool:
        """Whether the text may end before this white space."""
        if self._goal is None or self.words < self._goal:
            return False
        if self.words >= 2 * (self._goal + self._slack):
            return True
        if self._open:
            return False
        late = self.words >= self._goal + self._slack
        return "\n" in space or (late and _SENTENCE_END.search(self._last) is not None)
