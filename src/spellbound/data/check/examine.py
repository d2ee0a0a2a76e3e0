"""Everything that is wrong with one row, taken by itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from spellbound.data.check.faults import WARNINGS, Code, Finding
from spellbound.data.check.leaks import shared_run
from spellbound.data.check.limits import Limits
from spellbound.data.check.markup import Markup
from spellbound.data.check.near import signature
from spellbound.data.examples import Example
from spellbound.data.rows import said
from spellbound.data.tagged import TaggedStory
from spellbound.data.words import word_hashes, words_of
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError

Tokens = Callable[[str], int]
"""From a text to its number of tokens."""

UNNAMED: dict[Code, str] = {
    "language": "name it (ISO 639-1), or it counts as none",
    "licence": "name it, or nobody may pass the rows on",
}
"""Fields that may be empty but should not be, with the remedy."""


@dataclass(kw_only=True)
class Examined:
    """What was found in a row, and what rows are compared by."""

    findings: list[Finding] = field(default_factory=list)
    id: str | None = None
    signature: NDArray[np.uint32] | None = None
    """Of its completion or story; None if that is too short to be compared."""
    unnamed: tuple[Code, ...] = ()
    """Which of `UNNAMED` it does not say."""

    def add(self, name: str, code: Code, what: str, remedy: str) -> None:
        """Put a finding down."""
        self.findings.append(Finding(name, code, what, remedy))


def examine(
    value: Mapping[str, Any], model: type[BaseModel], limits: Limits, tokens: Tokens | None
) -> Examined:
    """Examine a row as an example or a tagged story. What other faults hide is not looked at."""
    found = Examined()
    row = _validated(value, model, found)
    if isinstance(name := value.get("id"), str) and name:
        found.id = name
    if model is Example:
        _example(value, row, limits, tokens, found)
    else:
        _tagged(value, row, limits, found)
    found.unnamed = tuple(name for name in UNNAMED if value.get(name, "") == "")
    return found


def faults_of(value: Mapping[str, Any], limits: Limits, tokens: Tokens | None = None) -> list[Finding]:
    """What is wrong with an example, warnings apart: who makes examples leaves those out that have any."""
    found = examine(value, Example, limits, tokens)
    return [each for each in found.findings if each.code not in WARNINGS]


def _validated(value: Mapping[str, Any], model: type[BaseModel], found: Examined) -> BaseModel | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for name, message in said(error):
            what, _, remedy = message.rpartition("; ")
            unknown = what == "is an unknown field"
            code: Code = "unknown-field" if unknown else "prompt" if name == "prompt" else "schema"
            found.add(name, code, what or message, remedy)
        return None


def _example(
    value: Mapping[str, Any], row: BaseModel | None, limits: Limits, tokens: Tokens | None, found: Examined
) -> None:
    prompt = row.prompt if isinstance(row, Example) else _prompt(value.get("prompt"))
    cast = None if prompt is None else prompt.characters
    text = value.get("completion")
    completion = Markup.read("completion", text, cast) if isinstance(text, str) else None
    if completion is not None:
        found.findings.extend(completion.findings)
        found.signature = signature(completion.hashes) if limits.similarity else None
        _length(completion, limits, tokens, found)
    if prompt is not None:
        past = Markup.read("prompt.past_story", prompt.past_story, cast)
        found.findings.extend(past.findings)
        if completion is not None:
            _between(prompt, past, completion, limits, found)
    if isinstance(row, Example) and completion is not None:
        _checks(row, completion, found)


def _prompt(text: object) -> StoryPrompt | None:
    """The prompt of a row with other faults, if it can be read by itself."""
    try:
        return StoryPrompt.parse(text) if isinstance(text, str) else None
    except InputError:
        return None  # said of the row already


def _length(completion: Markup, limits: Limits, tokens: Tokens | None, found: Examined) -> None:
    if not completion.plain.strip():
        found.add("completion", "empty", "says nothing", "leave the row out, or write its completion")
    words = len(completion.plain.split())
    if limits.max_words and words > limits.max_words:
        what = f"has {words:,} words, more than {limits.max_words:,}"
        found.add("completion", "overlong", what, "cut the story into shorter passages, or raise --max-words")
    if limits.max_tokens and tokens is not None and (count := tokens(completion.text)) > limits.max_tokens:
        what = f"has {count:,} tokens, more than {limits.max_tokens:,}"
        found.add(
            "completion", "overlong", what, "cut the story into shorter passages, or raise --max-tokens"
        )


def _between(prompt: StoryPrompt, past: Markup, completion: Markup, limits: Limits, found: Examined) -> None:
    """What prompt and completion say to each other."""
    if not prompt.tags and completion.tagged:
        what = "has tags, though the prompt asks for plain prose"
        found.add("completion", "tags", what, "take out the tags, or let the prompt ask for them")
    wishes = words_of("\n".join(prompt.instructions))
    sheets = words_of("\n".join(text for each in prompt.characters for _, text in each.details))
    for name, words, least in (
        ("prompt.past_story", past.words, limits.leak_past),
        ("prompt.instructions", wishes, limits.leak_instructions),
        ("prompt.characters", sheets, limits.leak_instructions),
    ):
        if not least or len(words) < least:
            continue
        if shared := shared_run(words, word_hashes(words), completion.hashes, least):
            what = f"gives the completion away: {shared[0]} words in a row, “{shared[1]} …”"
            found.add(name, "leak", what, "cut the story elsewhere, or write the prompt anew")


def _checks(row: Example, completion: Markup, found: Examined) -> None:
    for number, check in enumerate(row.checks):
        name, told = f"checks.{number}", f"{check.kind}({', '.join(check.arguments)})"
        try:
            if not check.holds(completion.events):
                found.add(name, "check", f"{told:.80} does not hold", "take it out, or mend the completion")
        except InputError as error:
            what, _, remedy = str(error).rpartition("; ")
            found.add(name, "check", what, remedy)


def _tagged(value: Mapping[str, Any], row: BaseModel | None, limits: Limits, found: Examined) -> None:
    text = value.get("text")
    story = row if isinstance(row, TaggedStory) else None
    if not isinstance(text, str):
        return
    markup = Markup.read("text", text, None if story is None else story.cast)
    found.findings.extend(markup.findings)
    found.signature = signature(markup.hashes) if limits.similarity else None
    if not markup.plain.strip():
        found.add("text", "empty", "says nothing", "leave the row out")
    if story is not None:
        found.findings.extend(_people(story))
        found.findings.extend(_spans(story, len(markup.plain)))


def _people(story: TaggedStory) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for number, character in enumerate(story.cast):
        owner = owners.setdefault(character.speaker_id, character.name)
        if owner is not character.name:
            what = f"speaker ID {character.speaker_id} belongs to {owner!r:.40} and to {character.name!r:.40}"
            yield Finding(f"cast.{number}", "speaker", what, "give each character its own")


def _spans(story: TaggedStory, length: int) -> Iterator[Finding]:
    for number, (start, end) in enumerate(story.doubtful):
        if not 0 <= start < end <= length:
            what = f"({start}, {end}) is no stretch of the plain text of {length} characters"
            yield Finding(f"doubtful.{number}", "span", what, "count in code points, tags left out")
