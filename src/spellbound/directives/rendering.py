"""Writes events in any of the six formats, at once or as they come."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from spellbound.directives.characters import Character
from spellbound.directives.events import Event
from spellbound.directives.formats import Format, Json, Tagged
from spellbound.directives.markup import Html, Ssml
from spellbound.directives.nesting import Nesting
from spellbound.directives.positions import require_writable
from spellbound.directives.prose import Plain, Script
from spellbound.errors import DirectiveError

FormatName = Literal["tagged", "plain", "script", "html", "ssml", "json"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)


class Renderer:
    """Renders the events of one text as they come. Events that do not nest are mended as tags would be."""

    def __init__(
        self,
        to: FormatName = "tagged",
        *,
        language: str = "en",
        cast: Iterable[Character] = (),
        voices: Mapping[str, str] | None = None,
    ) -> None:
        """Start a text.

        `language` chooses the quotation marks of `plain` (en fr de nl es pt it ar he) and is named in `html`
        and `ssml`; `cast` gives `script` its names; `voices` maps speaker IDs to the voice names of `ssml`.
        """
        self._format = _format(to, language, tuple(cast), voices or {})
        self._nesting = Nesting()

    def write(self, events: Iterable[Event]) -> str:
        """What can be written now that these events are known."""
        return "".join(self._format.write(mended) for event in events for mended in self._nesting.take(event))

    def close(self) -> str:
        """The rest of the text; what is still open is closed."""
        rest = "".join(self._format.write(event) for event in self._nesting.finish())
        return rest + self._format.end()


def render(
    events: Iterable[Event],
    to: FormatName = "tagged",
    *,
    language: str = "en",
    cast: Iterable[Character] = (),
    voices: Mapping[str, str] | None = None,
) -> str:
    """All events as one text, ready for a file; DirectiveError if it holds half a character.

    The arguments are those of `Renderer`.
    """
    renderer = Renderer(to, language=language, cast=cast, voices=voices)
    return require_writable(renderer.write(events) + renderer.close(), f"{to} text")


def _format(to: FormatName, language: str, cast: tuple[Character, ...], voices: Mapping[str, str]) -> Format:
    match to:
        case "tagged":
            return Tagged()
        case "json":
            return Json()
        case "plain":
            return Plain(language)
        case "script":
            return Script(language, cast)
        case "html":
            return Html(language)
        case "ssml":
            return Ssml(language, voices)
    raise DirectiveError(f"format {to!r} is unknown; use one of {', '.join(FORMATS)}")
