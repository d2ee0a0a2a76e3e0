"""A completion as a request to a server, in every dialect."""

import json
from typing import Any

import pytest

from spellbound.errors import InputError
from spellbound.story import ServerSettings
from spellbound.story.answer import Chunk, read_event
from spellbound.story.completion import CompletionOptions, Message
from spellbound.story.completion_request import completion_body
from spellbound.story.server import DIALECTS

CHAT = (Message("system", "Be brief."), Message("user", "Who rang?"))
SCHEMA = {"x-guidance": {"whitespace_flexible": False}, "type": "object"}
BARE = {"type": "object"}


def body(prompt: Any = CHAT, dialect: Any = "vllm", **options: Any) -> dict[str, Any]:
    server = ServerSettings(url="http://127.0.0.1:1/v1", dialect=dialect)
    return completion_body(prompt, CompletionOptions(**options), server)[1]


@pytest.mark.parametrize(
    ("prompt", "api", "asked"),
    [
        (
            CHAT,
            "chat",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who rang?"},
                ]
            },
        ),
        ("Fog", "completions", {"prompt": "Fog"}),
        ([5, 6], "completions", {"prompt": [5, 6]}),
    ],
)
def test_each_kind_of_prompt_has_its_api(prompt: Any, api: str, asked: dict[str, Any]) -> None:
    found, made = completion_body(prompt, CompletionOptions(), ServerSettings(url="http://127.0.0.1:1"))
    assert found == api
    assert asked.items() <= made.items()
    assert not {"max_tokens", "stop", "logit_bias", "cache_salt", "logprobs"} & made.keys()


def test_vllm_is_told_everything() -> None:
    made = body(
        max_tokens=9,
        min_tokens=3,
        min_p=0.1,
        repetition_penalty=1.2,
        temperature=0.5,
        top_p=0.9,
        seed=4,
        stop=("END",),
        logit_bias={5: -1.0},
        logprobs=2,
        json_schema=json.dumps(SCHEMA),
        space="salt mine",
    )
    assert made.pop("messages")
    assert made == {
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 9,
        "min_tokens": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "top_k": -1,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 4,
        "logit_bias": {"5": -1.0},
        "logprobs": True,
        "top_logprobs": 2,
        "structured_outputs": {"json": SCHEMA},
        "cache_salt": "mine",
    }


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("vllm", {"structured_outputs": {"json": SCHEMA}, "max_tokens": 5}),
        ("vllm-xgrammar", {"structured_outputs": {"json": BARE}, "max_tokens": 5}),
        ("llama.cpp", {"json_schema": BARE, "max_tokens": 5, "top_k": 0}),
        (
            "openai",
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "text", "schema": BARE}},
                "max_completion_tokens": 5,
            },
        ),
    ],
)
def test_a_schema_in_every_dialect(dialect: str, fields: dict[str, Any]) -> None:
    assert fields.items() <= body(dialect=dialect, json_schema=json.dumps(SCHEMA), max_tokens=5).items()


def test_a_grammar_is_for_llguidance_alone() -> None:
    rules = 'start: "a"'
    assert body(grammar=rules)["structured_outputs"] == {"grammar": rules}
    for dialect in DIALECTS[1:]:
        with pytest.raises(InputError, match=r"structured_outputs.grammar: .* knows none; leave it out"):
            body(dialect=dialect, grammar=rules)


@pytest.mark.parametrize(
    ("dialect", "options", "words"),
    [
        ("llama.cpp", {"min_tokens": 2}, "min_tokens: the server that writes"),
        ("llama.cpp", {"space": "salt x"}, "cache_salt: "),
        ("openai", {"min_tokens": 2}, "min_tokens: "),
        ("openai", {"space": "salt x"}, "cache_salt: "),
        ("openai", {"min_p": 0.1}, "min_p: "),
        ("openai", {"repetition_penalty": 1.1}, "repetition_penalty: "),
        ("vllm", {"adapter": "anna"}, "adapter 'anna': is for a model in this process"),
        ("vllm", {"seconds": 5.0}, "seconds 5.0: is for a model in this process"),
    ],
)
def test_what_cannot_be_said_is_refused(dialect: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        body(dialect=dialect, **options)


def test_openais_completions_take_no_schema() -> None:
    assert body("Fog", "llama.cpp", json_schema="{}")["json_schema"] == {}
    with pytest.raises(InputError, match="completions know none; ask for a chat"):
        body("Fog", "openai", json_schema="{}")


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        7,
        {"content": None},
        {"content": [7]},
        {"content": [{"token": 5, "logprob": "x", "bytes": [1000, "a"], "top_logprobs": 3}]},
        {"tokens": ["a", "bytes:\\xzz"], "token_logprobs": [10**400, None], "top_logprobs": [7]},
        {"content": [{"token": "a\ud83d", "logprob": float("nan")}]},
    ],
)
def test_scores_that_are_none_do_no_harm(logprobs: object) -> None:
    found = read_event({"choices": [{"text": "a", "logprobs": logprobs}]})
    assert isinstance(found, Chunk)
    assert found.text == "a"
    assert all(-9999 <= each.chosen.logprob <= 9999 for each in found.scores)
    assert all(each.chosen.text.encode() for each in found.scores if each.chosen.text)
