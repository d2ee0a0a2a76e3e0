"""What `spellbound write` does: read the story, write on, show it, keep it, say what it cost."""

import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from spellbound.cli import files
from spellbound.cli.controls import one_line
from spellbound.cli.formats import (
    TERMINAL,
    WRITE_FORMATS,
    Display,
    Hidden,
    Printed,
    Watched,
    format_for,
    rendered,
    require_format,
)
from spellbound.cli.interrupt import Interruption
from spellbound.cli.story_file import append_passage, read_story
from spellbound.cli.terminal import TerminalPage
from spellbound.directives import Character, parse, quotation_marks, render
from spellbound.errors import InputError
from spellbound.story import Ending, Generator, OpenAIGenerator, ServerSettings, WriteOptions, find_model

_REASONS = {
    "stop": "ended by the model",
    "words": "ended after the words asked for",
    "length": "cut at the token limit",
    "cancelled": "stopped by you",
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """Everything the user asked for."""

    story: str
    options: WriteOptions
    model: str
    adapter: Path | None
    device: str
    dtype: str
    server: ServerSettings | None
    to: str | None
    output: Path | None
    append: bool
    tags: bool
    language: str


class _Paper(Console):
    """A console that leaves a reader who has gone to us; rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Let the error through."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads any more")


def carry_out(order: Order) -> int:
    """Write a passage as ordered; return the exit status."""
    _check(order)
    story = read_story(order.story)
    prompt = story.prompt if order.tags else replace(story.prompt, tags=False)
    generator = _load(order)
    watched = Watched(_display(order, prompt.characters))
    with Interruption() as interruption:
        pieces: list[str] = []
        ending: Ending | None = None
        try:
            for piece in generator.write(prompt, order.options, interruption):
                if isinstance(piece, Ending):
                    ending = piece
                    break
                pieces.append(piece)
                _show(watched, piece, interruption)
            _show(watched, None, interruption)
        finally:  # whatever went wrong, words that were written are not lost
            interruption.patient = False
            # Broken off, a passage may have an open tag.
            passage = render(parse("".join(pieces)))
            kept = _keep(order, passage, prompt.characters, watched)
            if ending is None and kept:
                _say(f"broken off · what was written is {kept}")
    if ending is not None and interruption.signal != signal.SIGPIPE:
        _report(order, ending, kept)
    return interruption.status


def _check(order: Order) -> None:
    """Find what cannot work before the model is loaded."""
    require_format(order.to or TERMINAL, WRITE_FORMATS)
    quotation_marks(order.language)
    if order.output is not None:
        files.require_writable(order.output)
        files.require_other_file(order.output, order.story)
    if not order.append:
        return
    if order.story == files.STDIN:
        raise InputError(
            "--continue: there is no file to continue when the story comes from the standard input"
        )
    files.require_writable(Path(order.story))


def _load(order: Order) -> Generator:
    """Load the model, or make ready to ask a server; the long silence of the imports is in here."""
    if order.server is not None:
        return OpenAIGenerator(order.server)
    from transformers.utils import logging

    from spellbound.story.local import LocalGenerator

    folder = find_model(order.model)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return LocalGenerator(folder, adapter=order.adapter, device=order.device, dtype=order.dtype)


def _display(order: Order, cast: Sequence[Character]) -> Display:
    """Choose where the passage is shown: a file does not keep it from a terminal, but from a pipe."""
    # NO_COLOR asks for no colours; without any style it is surely honoured.
    console = _Paper(color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False)
    if order.output is not None:
        return TerminalPage(console, cast, order.language) if console.is_terminal else Hidden()
    if order.to in (None, TERMINAL):
        return TerminalPage(console, cast, order.language)
    return Printed(console, order.to or TERMINAL, cast, order.language)


def _show(watched: Watched, piece: str | None, interruption: Interruption) -> None:
    """Show a piece, or the end (None); when the reader has gone the passage ends too, and is still kept."""
    try:
        if piece is None:
            watched.close()
        else:
            watched.write(piece)
    except OSError as error:
        if error.errno not in files.LOST_OUTPUT:
            raise
        watched.display = Hidden()
        if error.errno != errno.EPIPE:
            raise
        interruption.stop(signal.SIGPIPE)


def _keep(order: Order, passage: str, cast: Sequence[Character], watched: Watched) -> str:
    """Put the passage where it was ordered to; return the words that say so.

    One place that fails keeps it from no other; what no place takes and nobody saw is printed.
    """
    places: list[str] = []
    failures: list[str] = []
    for keep in (_keep_in_output, _keep_in_story) if passage else ():
        try:
            places += keep(order, passage, cast)
        except InputError as error:
            failures.append(str(error))
    if failures:
        if not places and watched.unseen:
            print(passage)  # noqa: T201
        raise InputError("; ".join([*failures, *(f"it is {place}" for place in places)]))
    return " and ".join(places)


def _keep_in_output(order: Order, passage: str, cast: Sequence[Character]) -> list[str]:
    if order.output is None:
        return []
    to = order.to or format_for(order.output)
    text = rendered(passage, to=to, cast=cast, language=order.language)
    files.replace(order.output, (text if text.endswith("\n") else f"{text}\n").encode("utf-8"))
    return [f"in {order.output}"]


def _keep_in_story(order: Order, passage: str, cast: Sequence[Character]) -> list[str]:
    if not order.append:
        return []
    append_passage(order.story, passage)
    return [f"added to {order.story}"]


def _report(order: Order, ending: Ending, kept: str) -> None:
    """Say on the standard error what it cost, and how to get the same again."""
    usage = ending.usage
    facts = [
        f"{ending.words} words, {_REASONS[ending.reason]}",
        f"{usage.tokens_per_second:.0f} tokens/s",
        # Not every server says.
        *(
            [f"{usage.reused_tokens} of {usage.prompt_tokens} prompt tokens reused"]
            * bool(usage.prompt_tokens)
        ),
        f"seed {order.options.seed}",
        f"{len(ending.repairs) or 'no'} repair{'' if len(ending.repairs) == 1 else 's'}",
    ]
    if ending.closed:
        facts.append(f"closed for it: {', '.join(ending.closed)}")
    if kept:
        facts.append(kept)
    elif order.output is not None or order.append:
        facts.append("no file was touched: there is nothing to keep")
    elif ending.reason == "cancelled":
        facts.append("not in a file: no -o, no --continue")
    _say(" · ".join(facts))


def _say(line: str) -> None:
    """Tell the user something on the standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(one_line(line), style="dim"))
