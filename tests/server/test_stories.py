"""A passage as typed events: what the parser would say, without one."""

import json
from typing import Any

import pytest

from spellbound.directives import Close, Event, Open, StreamParser, Text, parse, render
from spellbound.directives.events import merge_text
from spellbound.story import WriteOptions, collect
from spellbound.story.local import LocalGenerator
from tests.server.running import CAST, PROMPT, STORY, Site

WRITE = "/v1/stories/write"
NOISE: dict[str, Any] = {"temperature": 2.0, "min_p": 0.0, "max_tokens": 120}


def streamed(site: Site, **fields: object) -> list[dict[str, Any]]:
    """The events of a stream; the name of each is its type."""
    found = []
    with site.http() as client, client.stream("POST", WRITE, json={"prompt": STORY} | fields) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in "".join(answer.iter_text()).split("\n\n"):
            if block and not block.startswith(":"):
                name, data = block.split("\n")
                found.append(json.loads(data.removeprefix("data: ")))
                assert name == f"event: {found[-1]['type']}"
    return found


def events_of(typed: list[dict[str, Any]]) -> list[Event]:
    """Typed events as the directives have them."""
    made: list[Event] = []
    for each in typed:
        match each["type"]:
            case "open":
                made.append(Open(each["kind"], each["speaker"]))
            case "text":
                made.append(Text(each["text"]))
            case "close":
                made.append(Close(each["kind"]))
    return list(merge_text(made))


@pytest.mark.parametrize("seed", range(6))
def test_the_events_are_those_of_the_passage(site: Site, generator: LocalGenerator, seed: int) -> None:
    typed = streamed(site, **NOISE, seed=seed)
    text, ending = collect(generator.write(PROMPT, WriteOptions(**NOISE, seed=seed)))
    assert events_of(typed) == list(merge_text(parse(text)))
    assert [each["type"] for each in typed[-2:]] == ["usage", "done"]
    assert not [each for each in typed if each["type"] == "repair"]
    assert typed[-1] == {
        "type": "done",
        "reason": ending.reason,
        "words": ending.words,
        "closed": list(ending.closed),
    }
    assert typed[-2]["completion_tokens"] == ending.usage.written_tokens
    assert typed[-2]["prompt_tokens_details"].keys() == {"cached_tokens"}


def test_all_at_once_is_the_same(site: Site) -> None:
    answer = site.post(WRITE, {"prompt": STORY, "stream": False, "seed": 2} | NOISE)
    assert answer.headers["content-type"] == "application/json"
    whole, pieces = answer.json()["events"], streamed(site, seed=2, **NOISE)
    assert events_of(whole) == events_of(pieces)
    assert whole[-1] == pieces[-1]


def test_some_noise_speaks_and_never_for_whom_it_may_not(site: Site) -> None:
    speakers: list[set[str]] = [set(), set()]
    for silent, found in zip(([], ["32AN4R"]), speakers, strict=True):
        for seed in range(8):
            typed = streamed(site, **NOISE, seed=seed, never_speak_as=silent)
            found |= {each["speaker"] for each in typed if each["type"] == "open" and each["kind"] == "quote"}
    assert speakers == [{"32AN4R", "K7Q2ZX"}, {"K7Q2ZX"}]


def test_a_story_without_tags_has_none(site: Site) -> None:
    typed = streamed(site, prompt=STORY | {"tags": False}, **NOISE, seed=1)
    assert {each["type"] for each in typed} == {"text", "usage", "done"}


def test_what_is_mended_is_told(site: Site) -> None:
    """Without the constraint the noise is full of mistakes."""
    repaired = 0
    for seed in range(16):
        typed = streamed(site, **(NOISE | {"temperature": 50.0}), seed=seed, constrain=False)
        repairs = [each for each in typed if each["type"] == "repair"]
        repaired += len(repairs)
        for each in repairs:
            assert each.keys() == {"type", "code", "tag", "offset", "line", "column", "message"}
        parser = StreamParser(CAST)
        parser.feed(render(events_of(typed)))
        assert parser.close() == []
        assert {each["code"] for each in repairs} >= {repair.code for repair in parser.repairs}
    assert repaired > 3


def test_details_words_and_stops(site: Site, generator: LocalGenerator) -> None:
    cast = [
        {**member, "details": details}
        for member, details in zip(
            STORY["characters"], ({"Mood": "dry"}, [["Mood", "brave"], ["Mood", "twice"]]), strict=True
        )
    ]
    typed = streamed(site, prompt=STORY | {"characters": cast}, **NOISE, seed=1, words=3)
    assert typed[-1]["words"] >= 3
    text, _ = collect(generator.write(PROMPT, WriteOptions(**NOISE, seed=1)))
    stop = text[len(text) // 2 :][:2]
    typed = streamed(site, **NOISE, seed=1, stop=stop)
    assert typed[-1]["reason"] == "stop"
    assert stop not in render(events_of(typed))


def test_a_stop_string_is_looked_for_in_the_text_alone(site: Site) -> None:
    quotes = 0
    for seed in range(4):
        typed = streamed(site, **NOISE, seed=seed, stop=["quote", "speaker="])
        quotes += sum(each["type"] == "open" and each["kind"] == "quote" for each in typed)
        assert events_of(typed) == events_of(streamed(site, **NOISE, seed=seed))
    assert quotes


def test_an_adapter_has_its_own_voice(site: Site, generator: LocalGenerator) -> None:
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40}
    passages = [render(events_of(streamed(site, model=name, **options))) for name in ("tiny", "tiny:anna")]
    assert passages == [
        collect(generator.write(PROMPT, WriteOptions(**options, adapter=adapter)))[0]
        for adapter in (None, "anna")
    ]
    assert passages[0] != passages[1]
