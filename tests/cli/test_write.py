"""`spellbound write` from the outside: what is shown, what is kept, what is refused."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app, files, writing
from spellbound.directives import StoryPrompt, parse
from spellbound.errors import InputError
from spellbound.story import ScriptedGenerator

STORY = """<MaraVossDescription>
- Name: Mara Voss
- Speaker ID: 32AN4R
</MaraVossDescription>
<pastStory>
The fog came in.
</pastStory>
<writingInstructions>
- Mara speaks.
</writingInstructions>
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "a.story.md"
    file.write_text(STORY, encoding="utf-8")
    return file


@pytest.fixture
def quick(tiny_folder: Path) -> list[str]:
    return ["--model", str(tiny_folder), "--max-tokens", "60", "--seed", "3"]


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["write", *map(str, arguments)], input=stdin)


def well_formed(text: str) -> bool:
    from spellbound.directives import StreamParser

    parser = StreamParser(["32AN4R"])
    parser.feed(text)
    parser.close()
    return not parser.repairs


def test_terminal_without_a_terminal_has_no_codes(story: Path, quick: list[str]) -> None:
    result = run(story, *quick)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.output
    assert result.stdout.endswith("\n")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_last_line_says_what_it_cost(story: Path, quick: list[str]) -> None:
    line = run(story, *quick).stderr
    assert re.fullmatch(
        r"\d+ words, cut at the token limit · \d+ tokens/s · 0 of \d+ prompt tokens reused"
        r" · seed 3 · no repairs"
        r"( · closed for it: .*)?\n",
        line,
    )


def test_same_seed_same_bytes_other_seed_others(story: Path, quick: list[str]) -> None:
    first, second = run(story, *quick, "--to", "tagged"), run(story, *quick, "--to", "tagged")
    assert first.stdout_bytes == second.stdout_bytes
    assert run(story, *quick, "--to", "tagged", "--seed", 4).stdout_bytes != first.stdout_bytes


def test_a_seed_is_chosen_and_told(story: Path, quick: list[str]) -> None:
    arguments = [story, *quick[:4], "--to", "tagged"]
    first = run(*arguments)
    seed = re.search(r"seed (\d+)", first.stderr)
    assert seed is not None
    assert run(*arguments, "--seed", seed[1]).stdout_bytes == first.stdout_bytes


@pytest.mark.parametrize("to", ["tagged", "plain", "html", "script", "json", "terminal"])
def test_file_and_output_say_the_same(story: Path, quick: list[str], tmp_path: Path, to: str) -> None:
    shown = run(story, *quick, "--to", to)
    kept = run(story, *quick, "--to", to, "-o", tmp_path / "out")
    assert (shown.exit_code, kept.exit_code) == (0, 0)
    assert kept.stdout == ""
    assert (tmp_path / "out").read_bytes() == shown.stdout_bytes
    assert sorted(file.name for file in tmp_path.iterdir()) == [story.name, "out"]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.html", "<article"), ("a.json", "["), ("a.txt", ""), ("a.md", "")]
)
def test_the_name_of_the_file_decides(
    story: Path, quick: list[str], tmp_path: Path, name: str, begins: str
) -> None:
    assert run(story, *quick, "-o", tmp_path / name).exit_code == 0
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.startswith(begins)
    if name == "a.json":
        assert json.loads(text)
    if name == "a.md":
        assert well_formed(text)


def test_standard_input(story: Path, quick: list[str]) -> None:
    assert (
        run("-", *quick, "--to", "tagged", stdin=story.read_bytes()).stdout_bytes
        == run(story, *quick, "--to", "tagged").stdout_bytes
    )


def test_no_tags_and_no_constraint(story: Path, quick: list[str]) -> None:
    plain = run(story, *quick, "--no-tags", "--to", "tagged")
    assert all(type(event).__name__ == "Text" for event in parse(plain.stdout))
    free = run(story, *quick, "--no-constrain", "--temperature", "3", "--to", "tagged")
    assert free.exit_code == 0
    assert well_formed(free.stdout)


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_continue_twice(story: Path, quick: list[str], line: str) -> None:
    story.write_bytes(STORY.replace("\n", line).encode())
    texts = []
    for seed in (1, 2):
        before = story.read_bytes()
        result = run(story, *quick, "--continue", "--seed", seed, "--to", "tagged")
        assert result.exit_code == 0, result.stderr
        head, tail = before.split(f"{line}</pastStory>".encode())
        after = story.read_bytes()
        assert after.startswith(head)
        assert after.endswith(f"{line}</pastStory>".encode() + tail)
        texts.append(result.stdout.rstrip("\n"))
    past = StoryPrompt.parse(story.read_text(encoding="utf-8")).past_story
    assert past.replace("\r\n", "\n").replace("\r", "\n") == "\n\n".join(
        ["The fog came in.", *texts]
    ).replace("\r", "\n")


BAD_STORIES = {
    "utf16.md": (STORY.encode("utf-16"), "line 1: byte 0xff is not UTF-8; save the file as UTF-8"),
    "latin.md": (STORY.replace("fog", "f\xf6g").encode("latin-1"), "line 6: byte 0xf6 is not UTF-8"),
    "empty.md": (b"", "line 1, column 1: the text is empty"),
    "open.md": (b"<pastStory>\nx", "line 1, column 1: <pastStory> is never closed"),
    "id.md": (STORY.replace("32AN4R", "short").encode(), "line 3, column 1: speaker ID 'short' is not valid"),
}


@pytest.mark.parametrize("name", BAD_STORIES)
def test_bad_stories(tmp_path: Path, name: str) -> None:
    content, message = BAD_STORIES[name]
    (tmp_path / name).write_bytes(content)
    refused(run(tmp_path / name), f"spellbound: {tmp_path / name}: {message}")


def refused(result: Result, message: str) -> None:
    """One line, status 2, nothing on the standard output."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message), result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "model 'nowhere' is not a folder and not in "),
        (["--device", "gpu"], "device 'gpu' is unknown"),
        (["--device", "cuda:77"], "device 'cuda:77' is not there"),
        (["--dtype", "int3"], "dtype 'int3' is unknown"),
        (["--adapter", "nowhere"], "nowhere: adapter_config.json is missing"),
        (["--to", "pdf"], "--to pdf: unknown format; give one of terminal, tagged, plain"),
        (["--to", "ssml"], "--to ssml: unknown format"),
        (["--lang", "tlh"], "language 'tlh' has no quotation marks here"),
        (["--temperature", "-1"], "temperature is -1.0; give a number from 0 to 100"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--min-p", "1"], "min_p is 1.0"),
        (["--repetition-penalty", "0.5"], "repetition_penalty is 0.5"),
        (["--seed", "-1"], "seed is -1"),
        (["--words", "0"], "words is 0"),
        (["--words", "many"], "Invalid value for '--words'"),
        (["--wrods", "3"], "No such option: --wrods"),
        (["-o", "nowhere/out.md"], "nowhere/out.md: the directory nowhere does not exist"),
        (["-o", "."], ".: is a directory"),
    ],
)
def test_bad_options(story: Path, quick: list[str], arguments: list[str], message: str) -> None:
    refused(run(story, *quick, *arguments), f"spellbound: {message}")


def test_stories_that_are_no_files(tmp_path: Path) -> None:
    refused(run(tmp_path / "none.md"), f"spellbound: {tmp_path / 'none.md'}: cannot be read: no such file")
    refused(run(tmp_path), f"spellbound: {tmp_path}: cannot be read: is a directory")


def test_continue_needs_a_file_of_its_own(story: Path, quick: list[str]) -> None:
    refused(run("-", *quick, "--continue", stdin=STORY.encode()), "spellbound: --continue: there is no file")
    for options in (["--continue"], []):
        refused(
            run(story, *quick, *options, "-o", story), f"spellbound: -o {story}: is {story} itself, which"
        )
    assert story.read_text(encoding="utf-8") == STORY
    os.mkfifo(story.with_name("pipe"))
    refused(
        run(story.with_name("pipe"), "--continue"), f"spellbound: {story.with_name('pipe')}: is a device or a"
    )


def test_no_arguments_shows_the_help() -> None:
    assert "write" in CliRunner().invoke(app, []).output
    version = CliRunner().invoke(app, ["--version"])
    assert (version.exit_code, version.stdout.split()[0]) == (0, "spellbound")


class Broken:
    """A generator that fails after its first words."""

    def __init__(self, *pieces: str, error: BaseException) -> None:
        self.pieces, self.error = pieces, error

    def write(self, *_: object) -> Iterator[str]:
        yield from self.pieces
        raise self.error


def use(monkeypatch: pytest.MonkeyPatch, generator: object) -> None:
    monkeypatch.setattr(writing, "_load", lambda order: generator)


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("the model broke; mend it"), 2), (KeyboardInterrupt(), 130)]
)
def test_what_was_written_before_a_failure_is_kept(
    story: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    use(monkeypatch, Broken("One. ", "<action>Two", error=error))
    result = run(story, "--continue", "-o", story.with_name("out.md"))
    assert result.exit_code == status
    assert f"what was written is in {story.with_name('out.md')} and added to {story}" in result.stderr
    assert story.with_name("out.md").read_text(encoding="utf-8") == "One. <action>Two</action>\n"
    assert "One. <action>Two</action>\n</pastStory>" in story.read_text(encoding="utf-8")


def test_nothing_written_replaces_nothing(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = story.with_name("out.md")
    output.write_text("old", encoding="utf-8")
    use(monkeypatch, Broken(error=InputError("the model broke; mend it")))
    refused(run(story, "-o", output), "spellbound: the model broke; mend it")
    use(monkeypatch, ScriptedGenerator([""]))
    assert "no file was touched" in run(story, "-o", output).stderr
    assert output.read_text(encoding="utf-8") == "old"


def test_one_place_that_fails_keeps_it_from_no_other(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = story.with_name("out.md")
    replace = files.replace

    def full(target: Path, content: bytes) -> None:
        if target == output:
            raise InputError(f"{target}: cannot be written: no space left; make room there")
        replace(target, content)

    monkeypatch.setattr(files, "replace", full)
    use(monkeypatch, ScriptedGenerator(["One."]))
    result = run(story, "-o", output, "--continue")
    refused(
        result, f"spellbound: {output}: cannot be written: no space left; make room there; it is added to"
    )
    assert "One.\n</pastStory>" in story.read_text(encoding="utf-8")
    result = run(story, "-o", output)
    assert (result.exit_code, result.stdout) == (2, "One.\n")
