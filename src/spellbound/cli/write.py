"""`spellbound write`: the next passage of a story, shown as it is written."""

from pathlib import Path
from typing import Annotated

import typer

Story = Annotated[str, typer.Argument(metavar="STORY.md", help="Story file, or - for the standard input.")]
Model = Annotated[str, typer.Option(help="nano, or the folder of a Jamba checkpoint.")]
Adapter = Annotated[Path | None, typer.Option(help="Folder of a PEFT adapter for the model.")]
Server = Annotated[
    str | None,
    typer.Option(metavar="URL", help="OpenAI-compatible server that writes, as http://127.0.0.1:8000/v1."),
]
ServerModel = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Model or adapter, as the server calls it. [default: its only one]"),
]
ServerApi = Annotated[str, typer.Option(metavar="API", help="chat or completions.")]
ServerDialect = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="How it can be told the constraint: vllm, vllm-xgrammar or llama.cpp; openai: not at all.",
    ),
]
ServerKey = Annotated[
    str, typer.Option(metavar="VARIABLE", help="Environment variable with its key, if it needs one.")
]
Words = Annotated[
    int | None,
    typer.Option(help="At least so many words, then the paragraph's end. [default: the model decides]"),
]
Seed = Annotated[int | None, typer.Option(help="The same seed writes the same passage. [default: a new one]")]
Temperature = Annotated[float, typer.Option(help="0: always the likeliest token; higher: more surprising.")]
TopP = Annotated[float, typer.Option(help="Only the likeliest tokens that together are so probable.")]
MinP = Annotated[float, typer.Option(help="Only tokens at least so likely relative to the likeliest.")]
Penalty = Annotated[float, typer.Option(help="Above 1: words just used become less likely.")]
MaxTokens = Annotated[int | None, typer.Option(help="Hard limit. [default: enough for --words, or 1024]")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
To = Annotated[
    str | None,
    typer.Option(help="terminal, tagged, plain, html, script or json. [default: terminal; -o: by the name]"),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Put the passage into this file.")]
Constrain = Annotated[bool, typer.Option(help="Only well-formed text with speakers of the cast.")]
Tags = Annotated[bool, typer.Option(help="Mark speech, actions and sounds; --no-tags: plain prose.")]
Append = Annotated[bool, typer.Option("--continue", help="Add the passage to the past story in STORY.md.")]
Language = Annotated[str, typer.Option("--lang", help="Language of the quotation marks: en, fr, de, …")]


_OF_A_MODEL_HERE = ("model", "adapter", "device", "dtype")
_OF_A_SERVER = ("server_model", "server_api", "server_dialect", "server_key")
_NOT_OPENAIS = ("min_p", "repetition_penalty", "constrain")


def write(
    context: typer.Context,
    story: Story,
    model: Model = "nano",
    adapter: Adapter = None,
    server: Server = None,
    server_model: ServerModel = None,
    server_api: ServerApi = "chat",
    server_dialect: ServerDialect = "vllm",
    server_key: ServerKey = "SPELLBOUND_API_KEY",
    words: Words = None,
    seed: Seed = None,
    temperature: Temperature = 0.8,
    top_p: TopP = 1.0,
    min_p: MinP = 0.05,
    repetition_penalty: Penalty = 1.05,
    max_tokens: MaxTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    to: To = None,
    output: Output = None,
    constrain: Constrain = True,
    tags: Tags = True,
    append: Append = False,
    language: Language = "en",
) -> None:
    """Write the next passage of a story and show it as it is written.

    Ctrl-C ends the passage and keeps what was written.
    """
    from spellbound.cli.writing import Order, carry_out
    from spellbound.story import ServerSettings, WriteOptions
    from spellbound.story.server import api_named, dialect_named

    _require_one_place(context, server, server_dialect)
    settings = None
    if server is not None:
        settings = ServerSettings(
            url=server,
            model=server_model or "",
            api=api_named(server_api),
            dialect=dialect_named(server_dialect),
            key_variable=server_key,
        )
    options = WriteOptions(
        words=words,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=_any_seed() if seed is None else seed,
        constrain=constrain,
    )
    order = Order(
        story=story,
        options=options,
        model=model,
        adapter=adapter,
        device=device,
        dtype=dtype,
        server=settings,
        to=to,
        output=output,
        append=append,
        tags=tags,
        language=language,
    )
    raise typer.Exit(carry_out(order))


def _require_one_place(context: typer.Context, server: str | None, dialect: str) -> None:
    """Refuse options that mean nothing where the passage is written."""
    from spellbound.errors import InputError

    where = f"with --server {server}" if server is not None else "without --server URL"
    meaningless = _OF_A_MODEL_HERE if server is not None else _OF_A_SERVER
    if given := _given(context, meaningless):
        raise InputError(f"{given} means nothing {where}; leave one of them out")
    if (
        server is not None
        and dialect == "openai"
        and (given := _given(context, (*_NOT_OPENAIS, "constrain")))
    ):
        raise InputError(f"{given}: OpenAI's API knows no such thing; leave it out, or give --server-dialect")


def _given(context: typer.Context, names: tuple[str, ...]) -> str:
    """Return the first of these options that stands on the command line, as it is spelled there."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and context.params[name] is not False:
            return f"--{name.replace('_', '-')}"
    return ""


def _any_seed() -> int:
    """Choose a seed short enough to be typed again."""
    import secrets

    return secrets.randbelow(1_000_000)
