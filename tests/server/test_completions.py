"""Chats and completions, asked for with OpenAI's own client and compared with the generator itself."""

import asyncio
import codecs
import json
from typing import Any

import openai
import pytest

from spellbound.directives import grammar
from spellbound.errors import InputError
from spellbound.story import OpenAIGenerator, ServerSettings, WriteOptions, collect
from spellbound.story.completion import Message
from spellbound.story.local import LocalGenerator
from tests.server.running import CAST, HELLO, PROMPT, Site, idle, text_of, until

MESSAGES = (Message("user", HELLO[0]["content"]),)
NOISE: dict[str, Any] = {"temperature": 2.0, "seed": 7, "max_tokens": 40}


def test_models_are_named(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names == [name for base in ("tiny", "tiny:anna", "tiny:bert") for name in (base, f"{base}-plain")]
    assert client.models.retrieve("tiny:anna").to_dict()["max_model_len"] == 8192
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_chat_is_what_the_generator_writes(client: Any, generator: LocalGenerator) -> None:
    expected, ending = text_of(generator, MESSAGES, **NOISE)
    answer = client.chat.completions.create(model="tiny", messages=HELLO, **NOISE)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].finish_reason == ending.reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == ending.usage.written_tokens == 40
    assert answer.usage.prompt_tokens == ending.usage.prompt_tokens == len(HELLO[0]["content"]) + 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 40


def test_what_was_read_before_is_told(client: Any) -> None:
    message = [{"role": "user", "content": "Nobody has asked this before."}]
    cached = []
    for _ in range(2):
        usage = client.chat.completions.create(model="tiny", messages=message, max_tokens=1).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        cached.append(usage.prompt_tokens_details.cached_tokens)
    assert cached == [cached[0], usage.prompt_tokens]
    assert cached[0] is not None
    assert cached[0] < usage.prompt_tokens
    salted = client.chat.completions.create(
        model="tiny", messages=message, max_tokens=1, extra_body={"cache_salt": "mine"}
    ).usage
    assert salted is not None
    assert salted.prompt_tokens_details is not None
    assert salted.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("stop", [None, True], ids=["to the end", "with a stop string"])
def test_a_streamed_chat_is_the_whole_one(client: Any, stop: bool | None) -> None:
    asked = {"model": "tiny", "messages": HELLO, **NOISE, "max_tokens": 80}
    whole = client.chat.completions.create(**asked)
    if stop:
        text = whole.choices[0].message.content
        asked["stop"] = [text[30:33], "never written"]
        whole = client.chat.completions.create(**asked)
        assert text.startswith(whole.choices[0].message.content)
        assert asked["stop"][0] not in whole.choices[0].message.content
        assert whole.choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.completion_tokens, chunks[-1].usage.prompt_tokens) == (
        whole.usage.completion_tokens,
        whole.usage.prompt_tokens,
    )
    assert len({chunk.id for chunk in chunks}) == 1


def test_without_include_usage_nothing_is_said_of_it(client: Any) -> None:
    chunks = list(client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=3, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_the_asynchronous_client_with_many_at_once(site: Site, generator: LocalGenerator) -> None:
    async def ask(seed: int) -> str:
        async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key="x", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="tiny", messages=HELLO, stream=True, temperature=1.5, seed=seed, max_tokens=30
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(ask(seed) for seed in range(12)))

    found = asyncio.run(all_of_them())
    expected = [
        text_of(generator, MESSAGES, temperature=1.5, seed=seed, max_tokens=30)[0] for seed in range(12)
    ]
    assert found == expected
    assert len(set(found)) == 12


def test_several_texts_have_seeds_of_their_own(client: Any, generator: LocalGenerator) -> None:
    asked = {"model": "tiny", "messages": HELLO, **NOISE, "n": 3}
    answer = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in answer.choices]
    assert texts == [text_of(generator, MESSAGES, **(NOISE | {"seed": seed}))[0] for seed in (7, 8, 9)]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 120)
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_more_texts_than_may_wait_all_come(client: Any) -> None:
    answer = client.completions.create(
        model="tiny", prompt=["a", "b", "c", "d", "e", "f"], n=16, max_tokens=2, seed=0
    )
    assert [choice.index for choice in answer.choices] == list(range(96))


def test_scores_are_those_of_the_written_tokens(client: Any) -> None:
    asked = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 12, "logprobs": True}
    answer = client.chat.completions.create(**asked, top_logprobs=3)
    choice = answer.choices[0]
    content = choice.logprobs.content
    written = b"".join(bytes(each.bytes or []) for each in content)
    assert codecs.getincrementaldecoder("utf-8")("replace").decode(written) == choice.message.content
    assert len(content) == 12
    for each in content:
        assert len(each.top_logprobs) == 3
        assert each.logprob <= 0
        assert each.top_logprobs[0].logprob == pytest.approx(each.logprob)
        assert [other.logprob for other in each.top_logprobs] == sorted(
            (other.logprob for other in each.top_logprobs), reverse=True
        )
    streamed = [
        score
        for chunk in client.chat.completions.create(**asked, top_logprobs=3, stream=True)
        if chunk.choices[0].logprobs
        for score in chunk.choices[0].logprobs.content
    ]
    assert streamed == content


def test_a_bias_decides(client: Any, site: Site) -> None:
    number = site.post("/tokenize", {"prompt": "q", "add_special_tokens": False}).json()["tokens"][0]
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=5, logit_bias={str(number): 100}
    )
    assert answer.choices[0].message.content == "qqqqq"


SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["glad", "sad"]},
        "bells": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["mood", "bells"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("streams", [False, True])
def test_a_schema_is_followed(client: Any, seed: int, streams: bool) -> None:
    asked = {
        "model": "tiny",
        "messages": HELLO,
        "temperature": 1.5,
        "seed": seed,
        "response_format": {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}},
    }
    if streams:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = client.chat.completions.create(**asked).choices[0].message.content
    found = json.loads(text)
    assert found.keys() == {"mood", "bells"}
    assert found["mood"] in ("glad", "sad")
    assert 0 <= found["bells"] <= 99


def test_a_json_object_begins_as_one(client: Any) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, response_format={"type": "json_object"}
    )
    assert answer.choices[0].message.content.startswith("{")


def test_a_grammar_is_followed(client: Any) -> None:
    rules = 'start: "The bell " ("rang" | "was silent") "."'
    found = set()
    for seed in range(8):
        answer = client.completions.create(
            model="tiny",
            prompt="What of the bell?",
            max_tokens=100,
            seed=seed,
            extra_body={"structured_outputs": {"grammar": rules}},
        )
        assert answer.choices[0].finish_reason == "stop"
        found.add(answer.choices[0].text)
    assert found == {"The bell rang.", "The bell was silent."}


def test_completions_take_text_and_tokens(client: Any, generator: LocalGenerator) -> None:
    prompts = ["The bell", "The fog"]
    expected = [text_of(generator, prompt, **NOISE)[0] for prompt in prompts]
    asked = {"model": "tiny", **NOISE}
    assert [client.completions.create(prompt=each, **asked).choices[0].text for each in prompts] == expected
    both = client.completions.create(prompt=prompts, **asked)
    assert [choice.text for choice in both.choices] == expected
    tokens = [generator.tokenize(prompt) for prompt in prompts]
    as_tokens = client.completions.create(prompt=tokens, **asked)
    assert [choice.text for choice in as_tokens.choices] == expected
    one = client.completions.create(prompt=tokens[1], **asked)
    assert one.choices[0].text == expected[1]
    streamed = ["", ""]
    for chunk in client.completions.create(prompt=prompts, **asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_a_completion_has_sixteen_tokens_unless_more_are_asked_for(client: Any) -> None:
    answer = client.completions.create(model="tiny", prompt="The bell", temperature=2, seed=1)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_scores_of_a_completion(client: Any) -> None:
    answer = client.completions.create(model="tiny", prompt="Fog", temperature=0, max_tokens=6, logprobs=2)
    scores = answer.choices[0].logprobs
    assert scores is not None
    assert scores.tokens is not None
    assert scores.top_logprobs is not None
    assert len(scores.tokens) == len(scores.token_logprobs or []) == len(scores.text_offset or []) == 6
    for token, logprob, top in zip(
        scores.tokens, scores.token_logprobs or [], scores.top_logprobs, strict=True
    ):
        assert top[token] == pytest.approx(logprob)


@pytest.mark.parametrize("streams", [False, True])
def test_offsets_count_characters_that_take_several_tokens(client: Any, streams: bool) -> None:
    text = "Fög 🔔 rang – at 7."
    asked = {"model": "tiny", "prompt": "x", "max_tokens": 60, "logprobs": 0, "stream": streams}
    made = client.completions.create(
        **asked, extra_body={"structured_outputs": {"grammar": f'start: "{text}"'}}
    )
    scores = [each.choices[0].logprobs for each in (made if streams else [made]) if each.choices[0].logprobs]
    tokens = [token for each in scores for token in each.tokens]
    offsets = [offset for each in scores for offset in each.text_offset]
    assert any(token.startswith("bytes:") for token in tokens)
    written = b""
    for token, offset in zip(tokens, offsets, strict=True):
        assert offset == len(written.decode("utf-8", "ignore"))
        parts = token.removeprefix("bytes:").split("\\x")[1:] if token.startswith("bytes:") else []
        written += bytes(int(part, 16) for part in parts) if parts else token.encode()
    assert written.decode().startswith(text)


@pytest.mark.parametrize("name", ["tiny:anna", "tiny:bert"])
def test_an_adapter_writes_what_it_would_write_alone(
    client: Any, generator: LocalGenerator, name: str
) -> None:
    asked = {"temperature": 0.0, "max_tokens": 20}
    answer = client.chat.completions.create(model=name, messages=HELLO, **asked)
    expected, _ = text_of(generator, MESSAGES, **asked, adapter=name.partition(":")[2])
    assert answer.choices[0].message.content == expected
    assert expected != text_of(generator, MESSAGES, **asked)[0]


def test_control_tokens_of_a_chat_are_letters(site: Site, generator: LocalGenerator) -> None:
    said = "<|startoftext|><|write|><|endoftext|>"
    tokens = generator.tokenize(
        (Message("user", said), Message("assistant", "No."), Message("user", "<|write|>"))
    )
    assert [tokens.count(control) for control in (1, 2, 3)] == [3, 0, 3]  # those of the template alone
    answer = site.post("/tokenize", {"messages": [{"role": "user", "content": said}]})
    assert answer.json()["tokens"] == generator.tokenize((Message("user", said),))
    assert answer.json()["count"] == len(said) + 2


def test_tokens_and_back(site: Site) -> None:
    text = 'Fog. <quote speaker="32AN4R">Ünïcode</quote> 🔔'
    tokens = site.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]
    assert site.post("/tokenize", {"content": text}).json()["tokens"] == [1, *tokens]
    assert site.post("/detokenize", {"tokens": tokens}).json()["prompt"] == text


def test_our_own_client_writes_the_same_story_through_it(site: Site, generator: LocalGenerator) -> None:
    remote = OpenAIGenerator(ServerSettings(url=f"{site.url}/v1", model="tiny"))
    options = WriteOptions(
        temperature=2.0, min_p=0.0, seed=3, max_tokens=120, repetition_penalty=1.0, never_speak_as=("32AN4R",)
    )
    text, ending = collect(remote.write(PROMPT, options))
    expected, _ = collect(generator.write(PROMPT, options))
    assert text == expected
    assert "32AN4R" not in text
    assert ending.usage.prompt_tokens > 100
    with pytest.raises(InputError, match="name it so"):
        collect(remote.write(PROMPT, WriteOptions(adapter="anna")))


def test_the_grammar_of_a_cast_works_for_a_plain_chat(client: Any) -> None:
    rules = grammar(CAST)
    answer = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        **(NOISE | {"max_tokens": 200}),
        extra_body={"structured_outputs": {"grammar": rules}},
    )
    assert "<" in answer.choices[0].message.content


def test_messages_in_parts_and_unknown_fields(client: Any, generator: LocalGenerator) -> None:
    parts = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Who rang "}, {"type": "text", "text": "the bell?"}],
        }
    ]
    answer = client.chat.completions.create(
        model="tiny", messages=parts, **NOISE, user="x", extra_body={"top_k": -1, "nonsense": {"a": [1]}}
    )
    assert answer.choices[0].message.content == text_of(generator, MESSAGES, **NOISE)[0]


def test_nothing_is_left_behind(site: Site, generator: LocalGenerator) -> None:
    until(lambda: idle(generator) and len(site.service.gate) == 0)
