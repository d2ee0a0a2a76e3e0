"""`spellbound serve` as a process: its words, its end by signal, and what it knows after a kill."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from spellbound.cli.app import app
from tests.engine.test_adapters import write_adapter
from tests.server.running import STORY, until
from tests.story.loopback import Loopback

SOURCE = Path(__file__).resolve().parents[2] / "src"
MAIN = "from spellbound.cli import main; main()"
ANYWHERE = "0.0.0.0"  # noqa: S104 (with a key, or to be refused)
KEY = "a-key-of-enough-letters"
STORY_BODY: dict[str, Any] = {
    "prompt": STORY | {"past_story": "The fog came in. " * 60},
    "temperature": 0.0,
    "max_tokens": 12,
    "stream": False,
}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "SPELLBOUND_API_KEY"}
    return kept | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"} | more


def refused(*arguments: object, **more: str) -> tuple[int, str]:
    """Exit status and error of a command that does not get as far as to serve."""
    runner = CliRunner(env={"SPELLBOUND_API_KEY": None, **more})
    done = runner.invoke(app, ["serve", *map(str, arguments)])
    return done.exit_code, done.stderr


@contextmanager
def serving(folder: Path, *arguments: object, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and the address that it says it has."""
    with _started("--model", folder, "--name", "tiny", *arguments, **more) as started:
        yield started


@contextmanager
def behind(url: str, *arguments: object, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same before the server at this address."""
    with _started("--upstream", url, "--upstream-model", "tiny", *arguments, **more) as started:
        yield started


@contextmanager
def _started(*arguments: object, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", MAIN, "serve", "--port", 0, *arguments]
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r" at (http://\S+)/v1, ", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def test_sigterm_lets_what_is_written_end_and_takes_no_more(tiny_folder: Path) -> None:
    with serving(tiny_folder, "--grace", 60) as (process, url), httpx2.Client(base_url=url) as client:
        asked = {"prompt": "x", "stream": True, "max_tokens": 1500, "min_tokens": 1500, "temperature": 2.0}
        with client.stream("POST", "/v1/completions", json=asked, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            with pytest.raises(httpx2.TransportError):
                httpx2.get(f"{url}/health")
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason": "length"' in rest[-2]
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_after_a_kill_it_goes_on_from_the_disk(tiny_folder: Path, tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []
    with serving(tiny_folder, "--cache", tmp_path) as (process, url):
        answers.append(httpx2.post(f"{url}/v1/stories/write", json=STORY_BODY, timeout=60).json())
        until(lambda: sum(1 for _ in tmp_path.rglob("*.state.safetensors")) >= 3)
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(tiny_folder, "--cache", tmp_path) as (process, url):
        answers.append(httpx2.post(f"{url}/v1/stories/write", json=STORY_BODY, timeout=60).json())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    told = [[each for each in answer["events"] if each["type"] != "usage"] for answer in answers]
    assert told[0] == told[1]
    usage = [next(each for each in answer["events"] if each["type"] == "usage") for answer in answers]
    cached = [each["prompt_tokens_details"]["cached_tokens"] for each in usage]
    assert cached[0] == 0
    assert cached[1] > 900


def test_a_key_adapters_and_ctrl_c(tiny_folder: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "anna", 0)
    (tmp_path / "notes").mkdir()
    options = ("--adapters", tmp_path, "--host", ANYWHERE)
    with serving(tiny_folder, *options, SPELLBOUND_API_KEY=KEY) as (process, url):
        here = url.replace(ANYWHERE, "127.0.0.1")
        assert httpx2.get(f"{here}/health").json() == {"status": "ok"}
        assert httpx2.get(f"{here}/v1/models").status_code == 401
        listed = httpx2.get(f"{here}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).json()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert [each["id"] for each in listed["data"]] == ["tiny", "tiny-plain", "tiny:anna", "tiny:anna-plain"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", ANYWHERE], "can be reached from other machines"),
        (["--model", "nowhere"], "model 'nowhere' is not a folder"),
        (["--name", "a name"], "'a name' is no name"),
        (["--cors-origin", "*"], "no address of a page"),
        (["--adapters", "nowhere"], "nowhere: no such file or directory"),
        (["--port", "99999"], "port is 99999"),
        (["--port", "many"], "Invalid value for '--port'"),
        (["--plain", "verse"], "give prose or script"),
        (["--lang", "tlh"], "no quotation marks"),
        (["--host", "192.0.2.1", "--key-env", "OTHER"], "cannot listen on 192.0.2.1"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], words: str) -> None:
    status, said = refused(*arguments, OTHER=KEY)
    assert status == 2
    assert said.startswith("spellbound: ")
    assert words in said
    assert said.count("\n") == 1


def test_an_adapter_in_the_place_of_its_folder(tmp_path: Path) -> None:
    write_adapter(tmp_path / "anna", 0)
    status, said = refused("--adapters", tmp_path / "anna")
    assert status == 2
    assert said == f"spellbound: {tmp_path / 'anna'}: is an adapter itself; give the folder around it\n"


def test_a_number_that_the_engine_refuses(tiny_folder: Path) -> None:
    status, said = refused("--model", tiny_folder, "--port", 0, "--max-streams", 0)
    assert (status, said) == (2, "spellbound: max_streams is 0; give 1 or more\n")


def test_a_missing_extra_is_one_line() -> None:
    hide = (
        "import sys; from importlib.machinery import PathFinder; find = PathFinder.find_spec;"
        "PathFinder.find_spec = classmethod(lambda c, name, *rest:"
        " None if name == 'fastapi' else find(name, *rest));"
        f"sys.argv = ['spellbound', 'serve']; {MAIN}"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], env=environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "spellbound: serve: the package fastapi is not installed; run: pip install 'spellbound[studio]'\n"
    )


def test_before_another_server(tiny_folder: Path) -> None:
    with (
        serving(tiny_folder, SPELLBOUND_API_KEY=KEY) as (_, other),
        behind(f"{other}/v1", "--upstream-key-env", "OTHER_KEY", OTHER_KEY=KEY) as (process, url),
    ):
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        assert KEY not in command
        listed = httpx2.get(f"{url}/v1/models").json()["data"]
        assert [each["id"] for each in listed] == ["tiny", "tiny-plain"]
        answer = httpx2.post(f"{url}/v1/stories/write", json=STORY_BODY, timeout=60).json()
        assert answer["events"][-1]["type"] == "done"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--upstream-model", "noir"], 2, "it has no model 'noir'; give --upstream-model, one of: jamba"),
        (["--name", "a name"], 2, "'a name' is no name"),
        (["--name", "my/story"], 2, "'my/story' is no name"),
        (
            ["--upstream-model", "x/llama3:8b"],
            2,
            "'x/llama3:8b', as the upstream calls its model",
        ),
        (["--upstream-model", "x/llama3:8b"], 2, "give another with --name NAME"),
        (["--max-streams", "0"], 2, "max_streams is 0; give 1 or more"),
        (["--model", "nano"], 2, "--model means nothing with --upstream; leave one of them out"),
        (["--adapters", "."], 2, "--adapters means nothing with --upstream"),
        (["--cache", "."], 2, "--cache means nothing with --upstream"),
        (["--upstream-dialect", "tgi"], 2, "server dialect 'tgi' is unknown"),
        (["--upstream-api", "responses"], 2, "server api 'responses' is unknown"),
        (["--upstream-timeout", "0"], 2, "first_token_s is 0"),
        (["--upstream-tokenizer", "nowhere"], 2, "model folder 'nowhere' does not exist"),
        (["--upstream", "http://me:word@host/v1"], 2, "holds a name, a password"),
        (["--upstream", "http://127.0.0.1:1/v1"], 1, "no connection; look whether it runs"),
    ],
)
def test_wrong_options_of_an_upstream_are_one_line(arguments: list[str], status: int, words: str) -> None:
    with Loopback() as other:
        found, said = refused("--upstream", other.url, "--port", 0, *arguments)
    assert found == status, said
    assert words in said
    assert said.count("\n") == 1
    assert "me:word" not in said


def test_a_wrong_key_for_the_upstream_is_one_line(tiny_folder: Path) -> None:
    with serving(tiny_folder, SPELLBOUND_API_KEY=KEY) as (_, other):
        status, said = refused("--upstream", f"{other}/v1", "--port", 0)
    assert status == 2
    assert "status 401; put its key into the environment: export SPELLBOUND_UPSTREAM_KEY=..." in said


def test_options_of_an_upstream_need_one() -> None:
    status, said = refused("--upstream-model", "jamba")
    assert (status, said) == (
        2,
        "spellbound: --upstream-model means nothing without --upstream URL; leave one of them out\n",
    )


def test_nothing_of_the_server_is_imported_before_it_serves() -> None:
    code = (
        "import sys; from spellbound.cli import main; import spellbound.server, spellbound.story;"
        "print(sorted({'fastapi', 'uvicorn', 'prometheus_client', 'openai', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_before_another_server_no_model_is_needed() -> None:
    code = "import sys, spellbound.cli.serving; print({'torch', 'transformers', 'openai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)
    assert done.stdout == b"set()\n"
