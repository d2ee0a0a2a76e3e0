"""Runs the conformance vectors, as an implementation in any other language would."""

import json
from pathlib import Path
from typing import Any

import pytest

from spellbound.directives import (
    Character,
    Close,
    Event,
    Open,
    StoryPrompt,
    StreamParser,
    Text,
    check_story,
    parse,
)

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors.json").read_text(encoding="utf-8")
)


def named(group: str) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS[group]])


def as_list(event: Event) -> list[str | None]:
    match event:
        case Open("quote", speaker):
            return ["open", "quote", speaker]
        case Open(kind):
            return ["open", kind]
        case Close(kind):
            return ["close", kind]
        case Text(text):
            return ["text", text]


def as_prompt(data: dict[str, Any]) -> StoryPrompt:
    characters = [
        Character(each["name"], each["speaker_id"], tuple((key, value) for key, value in each["details"]))
        for each in data["characters"]
    ]
    return StoryPrompt(tuple(characters), data["past_story"], tuple(data["instructions"]), data["tags"])


def test_there_are_enough_vectors() -> None:
    assert sum(len(VECTORS[group]) for group in ("prompts", "readings", "checks", "outputs")) >= 150


@named("prompts")
def test_prompt_renders(vector: dict[str, Any]) -> None:
    assert as_prompt(vector["prompt"]).render() == vector["text"]


@named("prompts")
def test_prompt_reads(vector: dict[str, Any]) -> None:
    assert StoryPrompt.parse(vector["text"]) == as_prompt(vector["prompt"])
    assert [problem for problem in check_story(vector["text"]) if problem.fatal] == []


@named("readings")
def test_reading(vector: dict[str, Any]) -> None:
    prompt = StoryPrompt.parse(vector["text"])
    assert prompt == as_prompt(vector["prompt"])
    assert StoryPrompt.parse(prompt.render()) == prompt


@named("checks")
def test_check(vector: dict[str, Any]) -> None:
    problems = check_story(vector["text"])
    assert [(p.offset, p.line, p.column, p.fatal) for p in problems] == [
        (w["offset"], w["line"], w["column"], w["fatal"]) for w in vector["problems"]
    ]
    for problem, wanted in zip(problems, vector["problems"], strict=True):
        assert wanted["says"] in problem.message
        assert problem.remedy
        assert "\n" not in str(problem)


@named("outputs")
def test_output(vector: dict[str, Any]) -> None:
    parser = StreamParser(vector["cast"])
    for character in vector["text"]:
        parser.feed(character)
    parser.close()
    assert [as_list(event) for event in parse(vector["text"])] == vector["events"]
    assert [(r.code, r.tag, r.offset, r.line, r.column) for r in parser.repairs] == [
        (w["code"], w["tag"], w["offset"], w["line"], w["column"]) for w in vector["repairs"]
    ]
