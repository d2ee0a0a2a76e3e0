"""What is asked of a server: a prompt and options as the body of a request, in the dialect it understands."""

import re

from spellbound.directives import Character, StoryPrompt, grammar, structural_tag
from spellbound.errors import InputError
from spellbound.story.generator import WriteOptions
from spellbound.story.server import Api, ServerSettings

Body = dict[str, object]

# As LocalGenerator gives itself.
_TOKENS_A_WORD = 8
_LEAST_BUDGET = 1024
_NAME_OR_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|\w+')


def request_body(prompt: StoryPrompt, options: WriteOptions, server: ServerSettings) -> Body:
    """Return the body of a streamed request; the model's name is left to whoever knows it."""
    if options.adapter is not None:
        raise InputError(f"adapter {options.adapter!r:.40}: a server's adapters are models to it; name it so")
    text = prompt.render()
    asked: Body = {"messages": [{"role": "user", "content": text}]}
    if server.api == "completions":
        asked = {"prompt": f"{text}\n"}
    return {
        **asked,
        "stream": True,
        "stream_options": {"include_usage": True},
        limit_name(server.api, server): token_limit(options),
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        **of_its_own(
            server,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            # A word has at least one token; how many it will be nobody can tell a server.
            min_tokens=min(options.words or 0, token_limit(options)),
        ),
        **cache_salt(options.space, server),
        **(_constraint(prompt, options, server) if options.constrain else {}),
    }


def token_limit(options: WriteOptions) -> int:
    """Return how many tokens may be written."""
    return options.max_tokens or max(_LEAST_BUDGET, _TOKENS_A_WORD * (options.words or 0))


def limit_name(api: Api, server: ServerSettings) -> str:
    """Return what the greatest number of tokens is called."""
    return "max_completion_tokens" if (api, server.dialect) == ("chat", "openai") else "max_tokens"


def of_its_own(
    server: ServerSettings, *, min_p: float, repetition_penalty: float, min_tokens: int = 0
) -> Body:
    """Return fields that OpenAI does not have, by the names that this server gives them.

    Tokens are to be counted with every piece: a passage that we end is left without the last one.
    """
    match server.dialect:
        case "openai":
            return {}
        case "llama.cpp":
            return {
                "min_p": min_p,
                "repeat_penalty": repetition_penalty,
                "top_k": 0,  # its own default is the 40 likeliest
                "timings_per_token": True,
            }
        case "vllm" | "vllm-xgrammar":
            fields: Body = {
                "min_p": min_p,
                "repetition_penalty": repetition_penalty,
                "top_k": -1,  # a checkpoint's generation_config may say otherwise
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            }
            if min_tokens:
                fields["min_tokens"] = min_tokens
            return fields


def cache_salt(space: str, server: ServerSettings) -> Body:
    """Keep one space apart from the others; InputError where that cannot be asked for."""
    if not space:
        return {}
    if server.dialect not in ("vllm", "vllm-xgrammar"):
        raise InputError(f"cache_salt: the server that writes ({server.dialect}) knows none; leave it out")
    return {"cache_salt": space.removeprefix("salt ")}


def _constraint(prompt: StoryPrompt, options: WriteOptions, server: ServerSettings) -> Body:
    """Well-formed text with speakers of the cast alone, as the server can be told."""
    cast, tags = options.speakers(prompt), prompt.tags
    match server.dialect:
        case "vllm":
            return {"structured_outputs": {"grammar": grammar(cast, tags=tags)}}
        case "vllm-xgrammar":
            return {"structured_outputs": {"structural_tag": structural_tag(cast, tags=tags)}}
        case "llama.cpp":
            return {"grammar": gbnf(cast, tags=tags)}
        case "openai":
            if options.never_speak_as:
                raise InputError("never_speak_as: OpenAI's API takes no constraint; use another dialect")
            return {}


def gbnf(cast: tuple[Character | str, ...], *, tags: bool = True) -> str:
    """Return the grammar of the output in llama.cpp's notation: the same rules, names without underscores."""
    if not tags:
        return "root ::= [^<>]*\n"
    rules = (line.split(": ", 1) for line in grammar(cast).splitlines() if not line.startswith("TEXT:"))
    lines = [f"{_spelled(name)} ::= {_spelled(rule)}" for name, rule in rules]
    # One character, for in a repeated rule a text of several would be read in very many ways.
    return "\n".join([*lines, "text ::= [^<>]\n"]).replace("start ::=", "root ::=", 1)


def _spelled(rule: str) -> str:
    """Spell the names in a rule as llama.cpp does; literals stay."""

    def spell(match: re.Match[str]) -> str:
        return match[0] if match[0][0] == '"' else match[0].lower().replace("_", "-")

    return _NAME_OR_LITERAL.sub(spell, rule)
