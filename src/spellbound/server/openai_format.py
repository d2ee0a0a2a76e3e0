"""OpenAI's JSON: what is asked in it as options, what is written as its objects."""

import codecs
import json
import re
import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from spellbound.errors import InputError, ModelError
from spellbound.server.errors import ApiError
from spellbound.server.offers import Offer
from spellbound.server.plain import PlainText, cast_of
from spellbound.server.schemas import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ResponseFormat,
    Sampling,
    StructuredOutputs,
)
from spellbound.server.settings import ServeSettings
from spellbound.server.writing import Job
from spellbound.story.completion import CompletionOptions, Likely, Message, Prompt, Scored
from spellbound.story.generator import Usage

Json = dict[str, Any]
_DEFAULT_MAX_TOKENS = 16  # of a completion, as OpenAI has it; a chat goes on to the end
_MOST_TEXTS = 128
_TOKEN = re.compile(r"[0-9]{1,18}")


def chat_job(body: ChatRequest, offer: Offer, settings: ServeSettings) -> Job:
    """Return what a chat request asks for."""
    messages = messages_of(body.messages)
    scores = (body.top_logprobs or 0) if body.logprobs else None
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    limit = body.max_completion_tokens or body.max_tokens
    return Job(messages, _options(body, offer, settings, messages, limit, scores), body.n or 1)


def completion_jobs(body: CompletionRequest, offer: Offer, settings: ServeSettings) -> list[Job]:
    """Return what a completion request asks for: one job a prompt."""
    for name, given in (("echo", body.echo), ("suffix", body.suffix)):
        if given:
            raise ApiError(400, f"{name} is not offered; leave it out", param=name, code="unsupported_value")
    if (body.best_of or 1) > (body.n or 1):
        raise ApiError(
            400, "best_of above n is not offered; leave it out", param="best_of", code="unsupported_value"
        )
    prompts = _prompts(body.prompt)
    count = body.n or 1
    if len(prompts) * count > _MOST_TEXTS:
        raise ApiError(
            400,
            f"{len(prompts)} prompts with n {count} are more than {_MOST_TEXTS} texts; ask for fewer",
            param="n",
            code="invalid_value",
        )
    limit = body.max_tokens or _DEFAULT_MAX_TOKENS
    return [
        Job(prompt, _options(body, offer, settings, prompt, limit, body.logprobs), count)
        for prompt in prompts
    ]


def messages_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return messages as plain text; ApiError for what is no text."""
    return tuple(Message(_role(each), _content(each, place)) for place, each in enumerate(messages))


def _role(message: ChatMessage) -> str:
    """What OpenAI calls developer by now, templates know as system."""
    return "system" if message.role == "developer" else message.role


def _content(message: ChatMessage, place: int) -> str:
    if isinstance(message.content, str):
        text = message.content
    else:
        parts = message.content or []
        foreign = next((part.type for part in parts if part.type != "text"), None)
        if foreign is not None:
            raise ApiError(
                400,
                f"message {place} has a part of type {foreign[:40]!r}; only text can be read",
                param="messages",
                code="unsupported_value",
            )
        text = "".join(part.text or "" for part in parts)
    return text


def _prompts(prompt: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]) -> list[Prompt]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise ApiError(
            400, "prompt is an empty list; give text or tokens", param="prompt", code="invalid_value"
        )
    if isinstance(prompt[0], int):
        return [[each for each in prompt if isinstance(each, int)]]
    texts = [each for each in prompt if isinstance(each, str)]
    return [*texts] or [list(each) for each in prompt if not isinstance(each, int | str)]


def _options(
    body: Sampling,
    offer: Offer,
    settings: ServeSettings,
    prompt: Prompt,
    limit: int | None,
    logprobs: int | None,
) -> CompletionOptions:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    shape = None
    if offer.plain:
        shape = partial(PlainText, settings.plain_form, settings.language, cast_of(prompt))
    return CompletionOptions(
        max_tokens=limit,
        min_tokens=body.min_tokens or 0,
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        min_p=_or(body.min_p, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        seed=seed_of(body.seed),
        stop=tuple(stop),
        logit_bias=_bias(body.logit_bias or {}, offer),
        logprobs=logprobs,
        grammar=body.structured_outputs.grammar if body.structured_outputs else None,
        json_schema=_schema(body.response_format, body.structured_outputs),
        space=space_of(body.cache_salt),
        adapter=offer.adapter,
        shape=shape,
    )


def seed_of(seed: int | None) -> int:
    """Return a seed of the sampler: the given one, or any."""
    return secrets.randbelow(2**63) if seed is None else seed % 2**63


def space_of(salt: str | None) -> str:
    """Return the part of the story cache that a salt opens."""
    return f"salt {salt}" if salt else ""


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _bias(given: dict[str, float], offer: Offer) -> dict[int, float]:
    wrong = next((token for token in given if not _TOKEN.fullmatch(token)), None)
    if wrong is not None:
        raise ApiError(
            400,
            f"logit_bias has {wrong[:40]!r}, which is no token; give tokens as numbers",
            param="logit_bias",
            code="invalid_value",
        )
    bias = {int(token): value for token, value in given.items()}
    if bias:
        _require_token(max(bias), offer)
    return bias


def _require_token(token: int, offer: Offer) -> None:
    """Refuse a token that the model does not have."""
    try:
        offer.completer.detokenize([token])
    except ModelError:
        raise ApiError(
            400,
            f"logit_bias has {token}, which is not in the vocabulary; give tokens as /tokenize returns them",
            param="logit_bias",
            code="invalid_value",
        ) from None
    except InputError:  # there is no tokenizer here, and whoever writes has to know
        return


def _schema(form: ResponseFormat | None, outputs: StructuredOutputs | None) -> str | None:
    """Return the JSON schema that the text has to follow, if there is one."""
    schema: Json | None = outputs.json_schema if outputs else None
    if form is not None and form.type != "text":
        if schema is not None:
            raise ApiError(
                400,
                "response_format and structured_outputs.json were given; leave one of them out",
                param="response_format",
                code="invalid_value",
            )
        schema = {"type": "object"}
        if form.type == "json_schema":
            if form.json_schema is None:
                raise ApiError(
                    400, "response_format has no json_schema", param="response_format", code="invalid_value"
                )
            schema = form.json_schema.json_schema
    # Compact, unless the schema says otherwise: a model could write white space for ever.
    return None if schema is None else json.dumps({"x-guidance": {"whitespace_flexible": False}} | schema)


def usage_object(usage: Usage) -> Json:
    """What a request cost; of cached tokens nothing, where nobody knows."""
    told: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.written_tokens,
        "total_tokens": usage.prompt_tokens + usage.written_tokens,
    }
    if usage.reuse_known:
        told["prompt_tokens_details"] = {"cached_tokens": usage.reused_tokens}
    return told


class Chat:
    """Objects of a chat completion."""

    def __init__(self, model: str) -> None:
        """Begin an answer."""
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, texts: Sequence[str], reasons: Sequence[str], scores: Sequence[list[Scored]]) -> Json:
        """The answer at once."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._scores(scores[index]),
                "finish_reason": reasons[index],
            }
            for index, text in enumerate(texts)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices}

    def first(self, index: int) -> Json | None:
        """What comes before a text."""
        return self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def piece(self, index: int, text: str, scored: Scored | None) -> Json:
        """A piece of a text."""
        return self._chunk(index, {"content": text}, self._scores([scored] if scored else []), None)

    def last(self, index: int, reason: str) -> Json:
        """The end of a text."""
        return self._chunk(index, {}, None, reason)

    def usage(self, usage: Usage) -> Json:
        """The end of a stream."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage_object(usage)}

    def _chunk(self, index: int, delta: Json, logprobs: Json | None, reason: str | None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _scores(self, scores: Sequence[Scored]) -> Json | None:
        if not scores:
            return None
        content = [
            {**_likely(each.chosen), "top_logprobs": [_likely(other) for other in each.likeliest]}
            for each in scores
        ]
        return {"content": content, "refusal": None}


class Text:
    """Objects of a completion."""

    def __init__(self, model: str) -> None:
        """Begin an answer."""
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._offsets: dict[int, _Offset] = {}

    def whole(self, texts: Sequence[str], reasons: Sequence[str], scores: Sequence[list[Scored]]) -> Json:
        """The answer at once."""
        choices = [
            self._choice(index, text, self._scores(index, text, scores[index]), reasons[index])
            for index, text in enumerate(texts)
        ]
        return {**self._head, "choices": choices}

    def first(self, index: int) -> Json | None:
        """Nothing comes before a text."""
        return None

    def piece(self, index: int, text: str, scored: Scored | None) -> Json:
        """A piece of a text."""
        scores = self._scores(index, text, [scored] if scored else [])
        return {**self._head, "choices": [self._choice(index, text, scores, None)]}

    def last(self, index: int, reason: str) -> Json:
        """The end of a text."""
        return {**self._head, "choices": [self._choice(index, "", None, reason)]}

    def usage(self, usage: Usage) -> Json:
        """The end of a stream."""
        return {**self._head, "choices": [], "usage": usage_object(usage)}

    def _choice(self, index: int, text: str, logprobs: Json | None, reason: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _scores(self, index: int, text: str, scores: Sequence[Scored]) -> Json | None:
        if not scores:
            return None
        offset = self._offsets.setdefault(index, _Offset())
        offset.text += text
        return {
            "tokens": [_spelled(each.chosen) for each in scores],
            "token_logprobs": [each.chosen.logprob for each in scores],
            "top_logprobs": [
                {_spelled(other): other.logprob for other in (*each.likeliest, each.chosen)}
                for each in scores
            ],
            "text_offset": [offset.before(each.chosen) for each in scores],
        }


class _Offset:
    """Where tokens begin in the text as the model writes it; one that ends a character brings all of it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0
        self.text = ""
        """What has been told so far; some of it may still be held back."""

    def before(self, token: Likely) -> int:
        """Return where a token begins, and count what it adds."""
        begin, added = self._length, self._decoder.decode(token.data)
        # Other servers name control tokens, too: what they name so is not in the text.
        if token.token >= 0 or added.startswith(self.text[begin : begin + len(added)]):
            self._length += len(added)
        return begin


def _likely(each: Likely) -> Json:
    return {"token": each.text, "logprob": each.logprob, "bytes": list(each.data) or None}


def _spelled(each: Likely) -> str:
    """A token as a key: part of a character by its bytes, as OpenAI spells it."""
    try:
        each.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in each.data)
    return each.text
