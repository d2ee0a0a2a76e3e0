"""`spellbound write --server`: a real server on loopback in place of a model."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_write import STORY, refused, run
from tests.story.loopback import Loopback, chat, fails, hangs, plain, says, streams, then_hangs, whole


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.delenv("SPELLBOUND_API_KEY", raising=False)
    with Loopback() as loopback:
        loopback.answer = says('<quote speaker="32AN', '4R">Who is there?</quote> ', "Nobody.")
        yield loopback


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "a.story.md"
    file.write_text(STORY, encoding="utf-8")
    return file


def test_a_passage_of_the_only_model(story: Path, server: Loopback) -> None:
    result = run(story, "--server", server.url, "--to", "tagged", "--seed", 3)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == '<quote speaker="32AN4R">Who is there?</quote> Nobody.\n'
    speed = r"\d+ tokens/s"
    assert re.fullmatch(
        rf"4 words, ended by the model · {speed} · 64 of 100 prompt tokens reused · seed 3 · no repairs\n",
        result.stderr,
    )
    body = server.requests[0]
    assert (body["model"], body["seed"]) == ("jamba", 3)
    assert "32AN4R" in body["structured_outputs"]["grammar"]


def test_an_adapter_the_api_the_dialect_and_the_key(
    story: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    server.answer = streams(whole(["Fog."], event=plain))
    options = ["--server-model", "gothic", "--server-api", "completions", "--server-dialect", "llama.cpp"]
    result = run(story, "--server", server.url, *options, "--server-key", "MY_KEY", "--to", "plain")
    assert (result.exit_code, result.stdout) == (0, "Fog.\n"), result.stderr
    assert server.paths == ["/v1/completions"]
    assert server.headers[0]["authorization"] == "Bearer sk-1"
    assert server.requests[0]["model"] == "gothic"
    assert server.requests[0]["grammar"].startswith("root ::= ")


def test_a_server_that_counts_no_tokens(story: Path, server: Loopback) -> None:
    server.answer = streams([chat("Fog."), chat("", "stop"), "[DONE]"])
    assert "prompt tokens" not in run(story, "--server", server.url).stderr


@pytest.mark.parametrize("options", [["--no-constrain"], []])
def test_openai_itself(story: Path, server: Loopback, options: list[str]) -> None:
    result = run(story, "--server", server.url, "--server-dialect", "openai", *options)
    assert result.exit_code == 0, result.stderr
    assert "structured_outputs" not in server.requests[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nano"], "--model means nothing with --server http://127.0.0.1"),
        (["--adapter", "folder"], "--adapter means nothing with --server"),
        (["--device", "cpu"], "--device means nothing with --server"),
        (["--dtype", "float32"], "--dtype means nothing with --server"),
        (["--server-dialect", "tgi"], "server dialect 'tgi' is unknown; give one of vllm"),
        (["--server-api", "responses"], "server api 'responses' is unknown; give one of chat, completions"),
        (["--server-dialect", "openai", "--min-p", "0.1"], "--min-p: OpenAI's API knows no such thing"),
        (["--server-dialect", "openai", "--constrain"], "--constrain: OpenAI's API knows no such thing"),
        (["--server", "nowhere"], "'nowhere' is no address of a server; give one as http://"),
    ],
)
def test_options_that_do_not_go_together(
    story: Path, server: Loopback, options: list[str], message: str
) -> None:
    refused(run(story, "--server", server.url, *options), f"spellbound: {message}")
    assert server.requests == []


@pytest.mark.parametrize(
    "option", [("--server-model", "m"), ("--server-api", "chat"), ("--server-dialect", "vllm")]
)
def test_options_of_a_server_need_one(story: Path, option: tuple[str, str]) -> None:
    refused(run(story, *option), f"spellbound: {option[0]} means nothing without --server URL; leave one")


def test_what_a_server_refuses(story: Path, server: Loopback) -> None:
    server.answer = fails(404, "The model `x` does not exist.")
    result = run(story, "--server", server.url, "--server-model", "x")
    refused(result, f"spellbound: server {server.host}: status 404: The model `x` does not exist.; give")


def test_what_was_written_before_a_cut_is_kept(story: Path, server: Loopback) -> None:
    server.answer = streams([chat("One. <action>Two")], cut=True)
    result = run(story, "--server", server.url, "--server-model", "x", "--continue")
    assert result.exit_code == 1
    assert f"broken off · what was written is added to {story}" in result.stderr
    assert "the connection was cut" in result.stderr
    assert "One. <action>Two</action>\n</pastStory>" in story.read_text(encoding="utf-8")


def test_without_the_client_it_says_what_to_install(
    story: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    result = run(story, "--server", server.url)
    assert result.exit_code == 1
    assert "the package openai is not installed; run: pip install 'spellbound[studio]'" in result.stderr


@pytest.mark.parametrize("begun", [True, False])
def test_ctrl_c_closes_the_connection_and_keeps_what_came(story: Path, server: Loopback, begun: bool) -> None:
    server.answer = then_hangs(chat("One. <action>Two ")) if begun else hangs
    code = "from spellbound.cli import main; main()"
    options = ["--server", server.url, "--server-model", "m", "--continue", "--to", "tagged"]
    with subprocess.Popen(
        [sys.executable, "-c", code, "write", str(story), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    ) as process:
        assert server.asked.wait(60)
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1) if begun else b""
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert server.gone.wait(5)
    assert b"stopped by you" in errors
    assert (first + rest).decode() == ("One. <action>Two</action>\n" if begun else "")
    assert ("One. <action>Two</action>" in story.read_text(encoding="utf-8")) is begun
