"""Nested choice expansion: `[a|b|]` picks one branch, `{key}` asks the caller for a value.

`[1:a|b]` is linked to every other `[1:c|d]` of the same telling: a question and its answer go together.

A template is compiled once to a tree and expanded many times. `tidy` mends what no template should have to
care about: capitals at sentence starts, "a" before a vowel, doubled blanks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeAlias

from spellbound.errors import InputError

Resolve: TypeAlias = Callable[[str], str]
Sequence: TypeAlias = "tuple[str | Reference | Choice, ...]"


@dataclass(frozen=True, slots=True)
class Reference:
    """A `{key}` that the caller fills."""

    key: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A `[…|…]`, one branch of which is taken; all choices with one label take the same branch."""

    branches: tuple[Sequence, ...]
    label: str = ""


@cache
def compile_template(template: str) -> Sequence:
    """Return the tree of a template; raises InputError where brackets do not match."""
    parts = [part for part in re.split(r"([\[\]|]|\{[^{}]*\})", template) if part]
    branches, end = _branches(parts, 0)
    if end != len(parts) or len(branches) != 1:
        raise InputError(f"template {template[:60]!r} has an unmatched bracket or a bar outside brackets")
    return branches[0]


def _branches(parts: list[str], index: int) -> tuple[tuple[Sequence, ...], int]:
    branches: list[Sequence] = []
    current: list[str | Reference | Choice] = []
    while index < len(parts) and parts[index] != "]":
        part = parts[index]
        if part == "|":
            branches.append(tuple(current))
            current = []
        elif part == "[":
            label = _LABEL.match(parts[index + 1] if index + 1 < len(parts) else "")
            if label:
                parts[index + 1] = parts[index + 1][label.end() :]
            inner, index = _branches(parts, index + 1)
            if index >= len(parts):
                raise InputError(
                    f"template part {''.join(parts)[:60]!r} has an unclosed bracket; close it with ]"
                )
            current.append(Choice(inner, label[1] if label else ""))
        else:
            current.append(Reference(part[1:-1]) if part.startswith("{") else part)
        index += 1
    return (*branches, tuple(current)), index


def expand(template: str, rng: Random, resolve: Resolve) -> str:
    """Expand a template once, drawing its choices from `rng` and its values from `resolve`."""
    return _expand(compile_template(template), rng, resolve)


def _expand(sequence: Sequence, rng: Random, resolve: Resolve) -> str:
    pieces = []
    for node in sequence:
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, Reference):
            pieces.append(resolve(node.key))
        else:
            draw = float(resolve(f"={node.label}")) if node.label else rng.random()
            pieces.append(_expand(node.branches[int(draw * len(node.branches))], rng, resolve))
    return "".join(pieces)


_LABEL = re.compile(r"([0-9]):")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?:[aeiouAEIOU](?!ne\b|se|uro|ni[cft])|hour|honest))")
_START = re.compile(
    r"(^|(?<!\.\.)[.?](?:</(?:action|sound)>)?\s+|!</(?:action|sound)>\s+|<quote[^>]*>)((?:<(?:action|sound|quote[^>]*)>)*)([a-z])"
)
_BLANKS = re.compile(r" {2,}")
_SPACE_BEFORE = re.compile(r" +([,.!?;])")


def tidy(paragraph: str) -> str:
    """Capitalise sentence starts, write "an" before vowels and collapse blanks."""
    paragraph = _BLANKS.sub(" ", paragraph.strip())
    paragraph = _SPACE_BEFORE.sub(r"\1", paragraph)
    paragraph = _ARTICLE.sub(r"\1n ", paragraph)
    return _START.sub(lambda match: match[1] + match[2] + match[3].upper(), paragraph)
