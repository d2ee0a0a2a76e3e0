"""`spellbound serve`: a model for other programs, over HTTP as OpenAI has it."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")
_GIB = 2**30
_OF_A_MODEL_HERE = (
    "model",
    "adapters",
    "device",
    "dtype",
    "cache",
    "memory_gib",
    "disk_gib",
    "max_prompt",
)
_OF_AN_UPSTREAM = (
    "upstream_model",
    "upstream_api",
    "upstream_dialect",
    "upstream_key_env",
    "upstream_tokenizer",
    "upstream_timeout",
)


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="nano, or the folder of a Jamba checkpoint.")] = "nano",
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What clients call it. [default: its folder's or upstream's name]"),
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Each PEFT adapter in it, also a later one, is offered as NAME:ITS-FOLDER."
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Load no model: stand before the OpenAI-compatible server at http://HOST:PORT/v1.",
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Its model or adapter, as it calls that. [default: the only one it has]"
        ),
    ] = None,
    upstream_api: Annotated[
        str, typer.Option(metavar="API", help="How stories are asked for: chat or completions.")
    ] = "chat",
    upstream_dialect: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="How it can be told the constraint: vllm, vllm-xgrammar or llama.cpp; openai: not at all.",
        ),
    ] = "vllm",
    upstream_key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with its key, if it needs one.")
    ] = "SPELLBOUND_UPSTREAM_KEY",
    upstream_tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="A model folder with its tokenizer, for /tokenize. [default: none]"
        ),
    ] = None,
    upstream_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How long its first text may take, queue included, at each try."
        ),
    ] = 600.0,
    host: Annotated[
        str, typer.Option(help="Interface to listen on; another than loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8000,
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the key that clients send.")
    ] = "SPELLBOUND_API_KEY",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name by which the server may be called; repeatable."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A page whose scripts may ask, as http://localhost:3000; repeatable."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep what was read there, for the next start. [default: nowhere]"
        ),
    ] = None,
    memory_gib: Annotated[float, typer.Option(help="Memory for what was read.")] = 2.0,
    disk_gib: Annotated[float, typer.Option(help="Disk for what was read, with --cache.")] = 8.0,
    max_streams: Annotated[int, typer.Option(help="Texts worked on at once; further ones wait.")] = 64,
    max_waiting: Annotated[int, typer.Option(help="How many may wait; the next is told 503.")] = 256,
    max_per_client: Annotated[
        int, typer.Option(help="Texts of one address at a time; the next request is told 429.")
    ] = 64,
    max_prompt: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Longest prompt. [default: what the model reads]")
    ] = None,
    max_body_mib: Annotated[float, typer.Option(help="Largest request.")] = 8.0,
    plain: Annotated[
        str, typer.Option(metavar="FORM", help="What NAME-plain writes: prose, or script (Name: “…”).")
    ] = "prose",
    language: Annotated[str, typer.Option("--lang", help="Language of its quotation marks.")] = "en",
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long requests may go on after SIGTERM.")
    ] = 20.0,
) -> None:
    """Serve a model to programs that speak OpenAI's API, and stories as typed events.

    The model is loaded here, or is another server's (--upstream).
    SIGTERM or Ctrl-C: no more is taken, what is being written may end, the cache is kept.
    """
    from spellbound.errors import EnvironmentFault

    if missing := [each for each in _NEEDED if find_spec(each) is None]:
        raise EnvironmentFault(
            f"serve: the package {missing[0]} is not installed; run: pip install 'spellbound[studio]'"
        )
    from spellbound.cli.serving import Behind, Here, Source, serve_site
    from spellbound.server.settings import ServeSettings, plain_form_named
    from spellbound.story import ServerSettings
    from spellbound.story.completion import EngineSettings
    from spellbound.story.server import api_named, dialect_named

    _require_one_place(context, upstream)
    settings = ServeSettings(
        host=host,
        port=port,
        key=os.environ.get(key_env, "").strip(),
        allowed_hosts=tuple(each.lower() for each in allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        max_body_bytes=int(max_body_mib * 2**20),
        max_per_client=max_per_client,
        grace_s=grace,
        plain_form=plain_form_named(plain),
        language=language,
    )
    source: Source
    if upstream is not None:
        server = ServerSettings(
            url=upstream,
            model=upstream_model or "",
            api=api_named(upstream_api),
            dialect=dialect_named(upstream_dialect),
            key_variable=upstream_key_env,
            first_token_s=upstream_timeout,
            # Whoever asked waits meanwhile, and can ask again.
            retries=2,
            longest_wait_s=5.0,
        )
        source = Behind(
            server=server,
            name=name,
            tokenizer=upstream_tokenizer,
            max_streams=max_streams,
            max_waiting=max_waiting,
        )
    else:
        engine = EngineSettings(
            cache_bytes=int(memory_gib * _GIB),
            cache_folder=cache,
            disk_bytes=int(disk_gib * _GIB),
            max_streams=max_streams,
            max_waiting=max_waiting,
            max_prompt_tokens=max_prompt,
        )
        source = Here(model=model, name=name, adapters=adapters, device=device, dtype=dtype, engine=engine)
    serve_site(source, settings, typer.echo)


def _require_one_place(context: typer.Context, upstream: str | None) -> None:
    """Refuse options that mean nothing where the model is."""
    from spellbound.errors import InputError

    where = "with --upstream" if upstream is not None else "without --upstream URL"
    for name in _OF_A_MODEL_HERE if upstream is not None else _OF_AN_UPSTREAM:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} means nothing {where}; leave one of them out")
