"""A completion as the body of a request to a server; what the server has no words for is refused, by name."""

import json

from spellbound.errors import InputError
from spellbound.story.completion import CompletionOptions, Message, Prompt
from spellbound.story.request import Body, cache_salt, limit_name, of_its_own
from spellbound.story.server import Api, Dialect, ServerSettings

_LACKS: dict[Dialect, frozenset[str]] = {
    "vllm": frozenset(),
    "vllm-xgrammar": frozenset({"structured_outputs.grammar"}),
    "llama.cpp": frozenset({"structured_outputs.grammar", "min_tokens"}),
    "openai": frozenset({"structured_outputs.grammar", "min_tokens", "min_p", "repetition_penalty"}),
}
"""Fields of a request that a dialect cannot say."""


def completion_body(prompt: Prompt, options: CompletionOptions, server: ServerSettings) -> tuple[Api, Body]:
    """Return the API that a prompt is for, and the body of a streamed request for one text.

    Stop strings are not in it: they are looked for in what is shown. InputError for what cannot be said.
    """
    api: Api = "completions"
    asked: Body = {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
    if prompt and isinstance(prompt[0], Message):
        api = "chat"
        messages = [each for each in prompt if isinstance(each, Message)]
        asked = {"messages": [{"role": each.role, "content": each.content} for each in messages]}
    _require_known(options, server)
    if options.max_tokens is not None:
        asked[limit_name(api, server)] = options.max_tokens
    if options.logit_bias:
        asked["logit_bias"] = {str(token): bias for token, bias in options.logit_bias.items()}
    return api, {
        **asked,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        **of_its_own(
            server,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            min_tokens=options.min_tokens,
        ),
        **cache_salt(options.space, server),
        **_scores(api, options.logprobs),
        **_constraint(api, options, server),
    }


def _require_known(options: CompletionOptions, server: ServerSettings) -> None:
    """Refuse what the server could only pass over."""
    given = {
        "structured_outputs.grammar": options.grammar is not None,
        "min_tokens": options.min_tokens > 0,
        "min_p": options.min_p > 0,
        "repetition_penalty": options.repetition_penalty != 1,
    }
    for name in sorted(_LACKS[server.dialect]):
        if given[name]:
            raise InputError(f"{name}: the server that writes ({server.dialect}) knows none; leave it out")
    for name, local in (("adapter", options.adapter), ("seconds", options.seconds)):
        if local is not None:
            raise InputError(f"{name} {local!r:.40}: is for a model in this process; leave it out")


def _scores(api: Api, count: int | None) -> Body:
    if count is None:
        return {}
    return {"logprobs": True, "top_logprobs": count} if api == "chat" else {"logprobs": count}


def _constraint(api: Api, options: CompletionOptions, server: ServerSettings) -> Body:
    if options.grammar is not None:
        return {"structured_outputs": {"grammar": options.grammar}}
    if options.json_schema is None:
        return {}
    schema = json.loads(options.json_schema)
    match server.dialect:
        case "vllm":
            return {"structured_outputs": {"json": schema}}
        case "vllm-xgrammar":
            return {"structured_outputs": {"json": _without_guidance(schema)}}
        case "llama.cpp":
            return {"json_schema": _without_guidance(schema)}
        case "openai" if api == "chat":
            wrapped = {"name": "text", "schema": _without_guidance(schema)}
            return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
        case _:
            raise InputError(
                "response_format: OpenAI's completions know none; ask for a chat, or leave it out"
            )


def _without_guidance(schema: dict[str, object]) -> dict[str, object]:
    """Leave out what only llguidance reads."""
    return {name: value for name, value in schema.items() if name != "x-guidance"}
