"""Tags into good plain prose, for clients that know no tags."""

from collections.abc import Iterable, Sequence

from spellbound.directives import Character, Event, Renderer, StoryPrompt, StreamParser, Text, is_story
from spellbound.directives.prose import Plain
from spellbound.errors import DirectiveError
from spellbound.server.settings import PlainForm
from spellbound.story.completion import Message, Prompt


class PlainText:
    """Takes tagged text in any pieces, gives prose: speech in quotation marks, no tag and no speaker ID."""

    def __init__(self, form: PlainForm, language: str, cast: Iterable[Character] = ()) -> None:
        """Begin a text; `cast` gives a script its names."""
        self._parser = StreamParser()
        self._out = _Script(language, tuple(cast)) if form == "script" else _Prose(language)

    def feed(self, text: str) -> str:
        """Take some more; return what is certain. A speech is, once it has ended."""
        return self._out.write(self._parser.feed(text))

    def finish(self) -> str:
        """Return the rest; a speech that is still open ends, and a tag that was cut off is left out.

        The shape is not told why the text ended; one that ends of itself hardly ever does in half a tag.
        """
        events = self._parser.close()
        if events and isinstance(events[0], Text) and events[0].text.startswith("<"):
            del events[0]
        return self._out.write(events) + self._out.close()


class _Prose:
    """The prose of the directives."""

    def __init__(self, language: str) -> None:
        self._renderer = Renderer("plain", language=language)

    def write(self, events: Sequence[Event]) -> str:
        return self._renderer.write(events)

    def close(self) -> str:
        return self._renderer.close()


class _Script:
    """The same, with each speech on a line of its own behind its speaker's name."""

    def __init__(self, language: str, cast: Sequence[Character]) -> None:
        self._format = _Named(language, cast)

    def write(self, events: Sequence[Event]) -> str:
        return "".join(self._format.write(event) for event in events)

    def close(self) -> str:
        return self._format.end()


class _Named(Plain):
    """Prose in which a speech has its speaker's name before it, if that is known."""

    def __init__(self, language: str, cast: Sequence[Character]) -> None:
        super().__init__(language)
        self._names = {member.speaker_id: " ".join(member.name.split()) for member in cast}
        self._line_begins = True

    def write(self, event: Event) -> str:
        text = super().write(event)
        if text:
            self._line_begins = text.endswith("\n")
        return text

    def quote(self, speaker: str | None, inside: list[Event]) -> str:
        speech = super().quote(speaker, inside)
        name = self._names.get(speaker or "")
        if name is None or not speech.strip():
            return speech
        return f"{'' if self._line_begins else chr(10)}{name}: {speech.lstrip()}"


def cast_of(prompt: Prompt) -> tuple[Character, ...]:
    """Return the characters of whatever story prompts a prompt holds."""
    texts: list[str] = []
    if isinstance(prompt, str):
        texts = [prompt]
    elif prompt and isinstance(prompt[0], Message):
        texts = [each.content for each in prompt if isinstance(each, Message)]
    found: dict[str, Character] = {}
    for text in texts:
        if is_story(text):
            try:
                members = StoryPrompt.parse(text).characters
            except DirectiveError:
                continue
            found.update({member.speaker_id: member for member in members})
    return tuple(found.values())
