"""`spellbound parse` and `spellbound check`."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.directives import StoryPrompt
from tests.cli.test_write import STORY

RAW = "He came. <QUOTE speaker=K7Q2ZX>Hello</quote> <action>He sat &lt; <sound>thud</action>"
CANONICAL = (
    'He came. <quote speaker="K7Q2ZX">Hello</quote> <action>He sat &lt; <sound>thud</sound></action>\n'
)


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], CANONICAL),
        (["--to", "plain"], "He came. “Hello” He sat < thud\n"),
        (["--to", "plain", "--lang", "fr"], "He came. «\u00a0Hello\u00a0» He sat < thud\n"),
        (["--to", "script"], "He came.\nK7Q2ZX: Hello\n(He sat <)\n([thud])\n"),
    ],
)
def test_parse_a_raw_passage(options: list[str], expected: str) -> None:
    result = run("parse", "-", *options, stdin=RAW)
    assert (result.exit_code, result.stdout) == (0, expected)


@pytest.mark.parametrize(("to", "begins"), [("html", "<article"), ("ssml", "<speak"), ("json", "[")])
def test_parse_for_machines(tmp_path: Path, to: str, begins: str) -> None:
    result = run("parse", "-", "--to", to, "-o", tmp_path / "out", stdin=RAW)
    assert (result.exit_code, result.stdout) == (0, "")
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert text.startswith(begins)
    if to == "json":
        assert json.loads(text)[1] == {"type": "open", "kind": "quote", "speaker": "K7Q2ZX"}


def test_parse_a_story_file_uses_its_past_and_its_names(tmp_path: Path) -> None:
    file = tmp_path / "s.story.md"
    file.write_text(
        STORY.replace("The fog", '<quote speaker="32AN4R">Look!</quote> The fog'), encoding="utf-8"
    )
    assert run("parse", file, "--to", "script").stdout == "MARA VOSS: Look!\nThe fog came in.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["parse", "nowhere.md"], "spellbound: nowhere.md: cannot be read: no such file"),
        (["parse", "."], "spellbound: .: cannot be read: is a directory"),
        (["parse", "-", "--to", "terminal"], "spellbound: --to terminal: unknown format; give one of tagged"),
        (["parse", "-", "--lang", "xx", "--to", "plain"], "spellbound: language 'xx' has no quotation marks"),
        (["parse", "-", "-o", "/nowhere/x"], "spellbound: /nowhere/x: the directory /nowhere does not exist"),
        (["parse"], "spellbound: Missing argument"),
        (["check", "nowhere.md"], "spellbound: nowhere.md: cannot be read: no such file"),
        (["nonsense"], "spellbound: No such command 'nonsense'"),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    result = run(*arguments, stdin="x")
    assert result.exit_code == 2
    assert result.stderr.startswith(message), result.stderr
    assert result.stderr.count("\n") == 1


def test_check_finds_everything(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(STORY, encoding="utf-8")
    spoilt = STORY.replace("The fog", '<quote speaker="ZZZZZZ">x').replace("Mara Voss", "Mara V\xf6ss")
    bad.write_bytes(spoilt.encode("latin-1"))
    result = run("check", good, bad)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{bad}:2:15", f"{bad}:6:1", f"{bad}:6:1"]


def test_check_is_content(tmp_path: Path) -> None:
    file = tmp_path / "good.md"
    file.write_text(STORY, encoding="utf-8")
    assert run("check", file).stdout == "1 story file checked, no problems\n"
    assert run("check", file, file).exit_code == 0


def test_check_goes_on_after_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.md"
    bad.write_text("<past\x1b[2JStory>", encoding="utf-8")
    result = run("check", tmp_path / "none.md", bad)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"spellbound: {tmp_path / 'none.md'}: cannot be read: no such file")
    assert result.stdout.startswith(f"{bad}:1:1: <past\\x1b[2JStory> is an unknown block; known are")


@pytest.mark.parametrize("content", [b"", b" \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "s.md"
    file.write_bytes(content)
    result = run("check", file)
    assert (result.exit_code, result.stdout.count("\n")) == (2, 1)
    assert result.stdout.startswith(f"{file}:1:1: the text is empty; write at least")


def test_a_story_is_not_replaced_by_its_conversion(tmp_path: Path) -> None:
    file = tmp_path / "s.story.md"
    file.write_text(STORY, encoding="utf-8")
    result = run("parse", file, "--to", "plain", "-o", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr == f"spellbound: -o {file}: is {file} itself, which would be lost; give another name\n"
    )
    assert file.read_text(encoding="utf-8") == STORY


def spellbound(*arguments: str, redirect: str) -> tuple[int, str]:
    """The real process with its streams redirected by a shell."""
    source = Path(__file__).resolve().parents[2] / "src"
    code = f"import sys; sys.path.insert(0, {str(source)!r}); from spellbound.cli import main; main()"
    command = shlex.join([sys.executable, "-c", code, *arguments])
    done = subprocess.run(["sh", "-c", f"{command} {redirect}"], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("redirect", "status", "message"),
    [
        ("<&-", 2, "spellbound: -: the standard input is closed; give the name of a file\n"),
        ("</dev/null >&-", 0, ""),
        (
            f"<{shlex.quote(__file__)} >/dev/full",
            1,
            "spellbound: the output cannot be written: no space left on device; send it to another place\n",
        ),
    ],
)
def test_streams_that_are_not_there(redirect: str, status: int, message: str) -> None:
    assert spellbound("parse", "-", redirect=redirect) == (status, message)


def test_the_examples_are_without_problems() -> None:
    examples = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.story.md"))
    assert len(examples) == 3
    assert run("check", *examples).stdout == "3 story files checked, no problems\n"


def test_the_examples_show_a_cast_a_long_past_and_plain_prose() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples"
    prompts = {
        file.name: StoryPrompt.parse(file.read_text(encoding="utf-8")) for file in folder.glob("*.story.md")
    }
    assert max(len(prompt.characters) for prompt in prompts.values()) == 3
    assert max(len(prompt.past_story.split()) for prompt in prompts.values()) > 1000
    assert [name for name, prompt in prompts.items() if not prompt.tags] == ["orchard.story.md"]
