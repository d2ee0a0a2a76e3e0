"""Completing in this process: told as it comes, ended when nobody listens."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from spellbound.directives import Character, Open, StoryPrompt, parse
from spellbound.errors import InputError, ModelError
from spellbound.story import WriteOptions, collect
from spellbound.story.completion import (
    Completed,
    CompletionOptions,
    EngineSettings,
    Failed,
    Message,
    Piece,
    PromptTooLong,
    completed,
)
from spellbound.story.local import LocalGenerator
from tests.conftest import write_tokenizer
from tests.engine.test_adapters import write_adapter
from tests.story.test_local import CAST, PROMPT, copied, hot

NOISE: dict[str, Any] = {"temperature": 2.0, "seed": 4, "max_tokens": 40}


@pytest.fixture(scope="module")
def local(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGenerator]:
    anna = write_adapter(tmp_path_factory.mktemp("adapters") / "anna", 0)
    made = LocalGenerator(tiny_folder, adapters={"anna": anna})
    yield made
    made.close()


def written(local: LocalGenerator, prompt: Any = "Fog", **options: Any) -> tuple[str, Completed]:
    *pieces, last = completed(local, prompt, CompletionOptions(**(NOISE | options)))
    assert isinstance(last, Completed)
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), last


def test_one_token_a_piece_and_then_the_end(local: LocalGenerator) -> None:
    told = list(completed(local, "Fog", CompletionOptions(**NOISE, logprobs=2)))
    assert [type(each) for each in told] == [Piece] * 40 + [Completed]
    scored = [each.scored for each in told if isinstance(each, Piece)]
    assert all(each is not None and len(each.likeliest) == 2 for each in scored)
    assert isinstance(told[-1], Completed)
    assert (told[-1].reason, told[-1].usage.written_tokens) == ("length", 40)


def test_whoever_stops_listening_ends_the_work(local: LocalGenerator) -> None:
    options = CompletionOptions(max_tokens=7000, min_tokens=7000)
    told = completed(local, "Fog", options)
    next(told)
    told.close()  # type: ignore[attr-defined]  # a generator
    items: SimpleQueue[object] = SimpleQueue()
    local.start("Fog", options, items.put).cancel()
    while not isinstance(item := items.get(timeout=30), Completed):
        assert isinstance(item, Piece)
    assert item.reason == "cancelled"
    while local.load.running:
        pass


def test_a_time_limit_ends_it_as_a_token_limit_does(local: LocalGenerator) -> None:
    _, ending = written(local, max_tokens=7000, min_tokens=7000, seconds=0.2)
    assert ending.reason == "length"
    assert 0 < ending.usage.written_tokens < 7000


@pytest.mark.parametrize("least", [0, 30])
def test_at_least_so_many_tokens(local: LocalGenerator, least: int) -> None:
    ends = {2: 100.0}  # the stop token is all but certain
    _, ending = written(local, logit_bias=ends, min_tokens=least)
    assert ending.usage.written_tokens == least


def test_stop_strings_and_schemas(local: LocalGenerator) -> None:
    whole, _ = written(local)
    text, ending = written(local, stop=(whole[20:22],))
    assert ending.reason == "stop"
    assert whole.startswith(text)
    assert whole[20:22] not in text
    answer, _ = written(local, json_schema='{"enum": ["the bell", "the fog"]}')
    assert json.loads(answer) in ("the bell", "the fog")


def test_what_goes_wrong_on_the_way_is_told(local: LocalGenerator) -> None:
    told: SimpleQueue[object] = SimpleQueue()
    local.start("Fog", CompletionOptions(grammar='start: "a" DEAD\nDEAD: /b/ & /c/'), told.put)
    while not isinstance(item := told.get(timeout=30), Failed):
        assert isinstance(item, Piece)
    assert isinstance(item.error, InputError)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grammar": 'start: "a"', "json_schema": "{}"}, "leave one of them out"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop": ("",)}, "a stop string is empty"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"logprobs": 1000}, "logprobs is 1000"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"adapter": "bert"}, "bert"),
        ({"grammar": "start: ("}, "the grammar cannot be used"),
    ],
)
def test_options_that_cannot_be(local: LocalGenerator, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        written(local, **options)


def test_prompts_that_cannot_be(local: LocalGenerator) -> None:
    for prompt in ("x" * 8191, [5] * 8192, (Message("user", "x" * 8190),)):
        with pytest.raises(PromptTooLong, match="has 8192 tokens and at most 8191 are read"):
            written(local, prompt)
    with pytest.raises(ModelError, match="no tokens"):
        written(local, [])
    with pytest.raises(InputError, match="max_prompt_tokens is 0"):
        EngineSettings(max_prompt_tokens=0)


def test_a_chat_without_a_template_has_each_content_on_its_lines(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_folder, tmp_path)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    write_tokenizer(folder, template=None)
    local = LocalGenerator(folder)
    chat = (Message("system", "Be brief."), Message("user", "<|endoftext|>"))
    assert local.chat_text(chat) == "<|startoftext|>Be brief.\n<|endoftext|>\n"
    tokens = local.tokenize(chat)
    assert (tokens[0], tokens.count(1), tokens.count(2)) == (1, 1, 0)
    assert local.detokenize(tokens) == local.chat_text(chat)
    assert local.tokenize("<|startoftext|>a") == local.tokenize("a")
    assert local.tokenize("a<|endoftext|>", start=False)[-1] == 2


def test_nobody_speaks_for_whom_it_was_told_not_to(local: LocalGenerator) -> None:
    speakers = set()
    for seed in range(8):
        text, _ = collect(local.write(PROMPT, hot(seed, never_speak_as=("K7Q2ZX",))))
        speakers |= {each.speaker for each in parse(text) if isinstance(each, Open) and each.kind == "quote"}
    assert speakers == {"32AN4R"}
    with pytest.raises(InputError, match=r"not in the cast; give of: nobody"):
        WriteOptions(never_speak_as=("K7Q2ZX",)).speakers(StoryPrompt(()))
    assert WriteOptions(never_speak_as=("K7Q2ZX",)).speakers(PROMPT) == (Character("Mara", "32AN4R"),)
    assert WriteOptions().speakers(PROMPT) == CAST


def test_a_passage_that_is_told_is_the_one_that_is_waited_for(local: LocalGenerator) -> None:
    for adapter in (None, "anna"):
        options = hot(3, adapter=adapter)
        told: SimpleQueue[Any] = SimpleQueue()
        local.start_passage(PROMPT, options, told.put)
        text, ending = collect(iter(partial(told.get, timeout=30), None))
        again, other = collect(local.write(PROMPT, options))
        assert text == again
        assert (ending.reason, ending.words, ending.closed) == (other.reason, other.words, other.closed)
