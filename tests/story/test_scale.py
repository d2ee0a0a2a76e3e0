"""The page and the compose file for servers: what they say exists, as far as it shows without a GPU."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]
from typer.core import TyperGroup
from typer.main import get_command

from spellbound.cli.app import app
from spellbound.server.settings import ServeSettings
from spellbound.story.capacity import Capacity, Question, lines, read_sizes
from spellbound.story.server import APIS, DIALECTS, KEY_VARIABLE, ServerSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
COMPOSE = ROOT / "examples" / "scale" / "compose.yaml"

# From vLLM's arg_utils.py and cli_args.py; values None: no value, or any.
VLLM: dict[str, set[str] | None] = {
    "--served-model-name": None,
    "--tensor-parallel-size": None,
    "--pipeline-parallel-size": None,
    "--distributed-executor-backend": {"ray", "mp", "uni", "external_launcher"},
    "--dtype": {"auto", "bfloat16", "float16", "float32", "half", "float"},
    "--max-model-len": None,
    "--mamba-ssm-cache-dtype": {"auto", "float32", "float16", "bfloat16"},
    "--mamba-cache-mode": {"all", "align", "none"},
    "--structured-outputs-config.backend": {"auto", "guidance", "xgrammar", "outlines", "lm-format-enforcer"},
    "--generation-config": None,
    "--max-lora-rank": None,
    "--lora-modules": None,
}
VLLM_SWITCHES = {"--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-lora"}
# From the README of llama.cpp's server.
LLAMA = {"-m", "-c", "-np", "-ngl", "--host", "--port", "--lora"}


def blocks() -> list[str]:
    """What stands between fences, indented or not."""
    return [re.sub(r"^  ", "", block, flags=re.M) for block in re.findall(r"```\w*\n(.*?)```", PAGE, re.S)]


def commands(program: str) -> Iterator[list[str]]:
    """The words of every command of a program on the page."""
    for block in blocks():
        for command in re.findall(rf"^{program} .*", block.replace("\\\n", " "), re.M):
            yield shlex.split(command)[1:]


def check_vllm(words: list[str]) -> None:
    for word in words:
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        if not equals:
            assert name in VLLM_SWITCHES, word
            continue
        known = VLLM[name]
        assert value
        assert known is None or value in known, word


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return read


def test_every_vllm_flag_exists(compose: dict[str, Any]) -> None:
    check_vllm(compose["services"]["vllm"]["command"])
    found = list(commands("vllm serve"))
    assert len(found) == 2
    for words in found:
        check_vllm(words)
    for words in re.findall(r"`(--[^`]*)`", PAGE):
        if "server" not in words and "=" in words:
            check_vllm(shlex.split(words))


def test_every_flag_of_llama_cpp_exists() -> None:
    (words,) = commands("llama-server")
    assert {word for word in words if word.startswith("-")} <= LLAMA


def test_the_compose_file_exposes_and_tells_nothing(compose: dict[str, Any]) -> None:
    assert list(compose["services"]) == ["vllm", "spellbound"]
    for service in compose["services"].values():
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        keys = [name for name in service["environment"] if "KEY" in name]
        assert all(service["environment"][name].startswith(f"${{{name}:?") for name in keys)
        # On a command line stand the names of variables, never what is in them.
        assert not [word for word in service["command"] if "$" in word and "KEY" in word]
    vllm, ours = compose["services"].values()
    assert "ports" not in vllm
    assert all(port.startswith("127.0.0.1:") for port in ours["ports"])
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])
    assert re.fullmatch(r"vllm/vllm-openai:\$\{VLLM_VERSION:-v\d+\.\d+\.\d+\}", vllm["image"])
    gpu = vllm["deploy"]["resources"]["reservations"]["devices"][0]
    assert (gpu["driver"], gpu["capabilities"]) == ("nvidia", ["gpu"])


def test_our_server_stands_in_front_as_its_own_options_have_it(compose: dict[str, Any]) -> None:
    """Its command line is read by the program itself, and fits the other service."""
    vllm, ours = compose["services"].values()
    command, *words = ours["command"]
    made = get_command(app)
    assert isinstance(made, TyperGroup)
    given = made.commands[command].make_context(command, words).params
    assert urlsplit(given["upstream"]).hostname == "vllm"
    assert f"--served-model-name={given['upstream_model']}" in vllm["command"]
    assert given["upstream_key_env"] in vllm["environment"]
    assert {given["upstream_key_env"], given["key_env"]} <= ours["environment"].keys()
    assert ours["ports"] == [f"127.0.0.1:8000:{given['port']}"]
    assert any(volume.endswith(f":{given['upstream_tokenizer']}:ro") for volume in ours["volumes"])
    assert ours["depends_on"]["vllm"]["condition"] == "service_healthy"
    assert f":{given['port']}/health" in ours["healthcheck"]["test"][-1]
    # Listening on every interface it needs a key, and no container's name but its address.
    settings = ServeSettings(host=given["host"], port=given["port"], key="x" * 16)
    assert settings.lets_in("127.0.0.1:8000")
    ServerSettings(
        url=given["upstream"],
        model=given["upstream_model"],
        api=given["upstream_api"],
        dialect=given["upstream_dialect"],
    )


def test_the_image_is_made_of_what_there_is(compose: dict[str, Any]) -> None:
    build = compose["services"]["spellbound"]["build"]
    assert (COMPOSE.parent / build["context"]).resolve() == ROOT
    made = build["dockerfile_inline"]
    copied = [name for names in re.findall(r"^COPY (.+) \S+$", made, re.M) for name in names.split()]
    assert len(copied) == 6
    assert all((ROOT / name).exists() for name in copied)
    (extra,) = re.findall(r"/spellbound\[(\w+)\]", made)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
    assert ("USER nobody" in made, "KEY" in made) == (True, False)


def test_the_compose_file_is_for_the_default_dialect(compose: dict[str, Any]) -> None:
    command = compose["services"]["vllm"]["command"]
    assert "--structured-outputs-config.backend=guidance" in command
    assert "--served-model-name=jamba" in command


def test_what_the_compose_file_leaves_out_would_be_right(compose: dict[str, Any]) -> None:
    left_out = re.findall(r"^      # - (--\S+)$", COMPOSE.read_text(encoding="utf-8"), re.M)
    assert left_out == ["--enable-lora", "--max-lora-rank=8", "--lora-modules=story=/adapters/story"]
    check_vllm(left_out)


def test_the_page_knows_every_dialect_api_and_the_variable() -> None:
    for name in DIALECTS:
        assert f"| `{name}` |" in PAGE
    assert f"--server-api {APIS[1]}" in PAGE
    assert f"`{KEY_VARIABLE}`" in PAGE


def test_our_own_options_exist() -> None:
    help_pages = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    found = [*commands("spellbound"), *([word] for word in re.findall(r"`(--server-[a-z-]+)", PAGE))]
    assert len(found) > 5
    for words in found:
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{word}\b", help_pages), word


def test_the_capacity_on_the_page_is_what_the_program_says() -> None:
    found = Capacity(read_sizes(ROOT / "recipes" / "jamba-mini.config.json"), Question(card="h100", cards=2))
    assert "```\n" + "\n".join(lines(found)) + "\n```\n" in PAGE
