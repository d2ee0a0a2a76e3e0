"""The real process: signals, a reader who goes away, a terminal. What was written is kept whole."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spellbound.directives import StoryPrompt
from tests.cli.test_write import STORY, well_formed

MAIN = "from spellbound.cli import main; main()"


@contextmanager
def writing(
    tiny_folder: Path, story: Path, *arguments: object, stdout: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that would go on writing for a very long time."""
    source = Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-c", MAIN, "write", story, "--model", tiny_folder, "--seed", 1, *arguments]
    process = subprocess.Popen(
        [*map(str, command), "--words", "900000"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "OMP_NUM_THREADS": "1",
            "TERM": "xterm",
            "COLUMNS": "80",
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "a.story.md"
    file.write_text(STORY, encoding="utf-8")
    return file


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_it_in_good_order(tiny_folder: Path, story: Path, number: int, status: int) -> None:
    with writing(tiny_folder, story, "--continue", "--to", "tagged", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        begin = os.read(process.stdout.fileno(), 1)
        process.send_signal(number)
        rest, errors = process.communicate(timeout=150)
    assert process.returncode == status
    shown = (begin + rest).decode().removesuffix("\n")
    assert well_formed(shown)
    assert b"stopped by you" in errors
    assert f"added to {story}".encode() in errors
    past = StoryPrompt.parse(story.read_bytes().decode()).past_story
    assert past == f"The fog came in.\n\n{shown}"


def test_ctrl_c_keeps_a_whole_file_and_a_terminal_shows_colours(
    tiny_folder: Path, story: Path, terminal: tuple[int, int]
) -> None:
    output = story.with_name("out.md")
    with writing(tiny_folder, story, "-o", output, stdout=terminal[1]) as process:
        shown = b""
        while b"\x1b[" not in shown:
            shown += os.read(terminal[0], 1024)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=150) == 130
    assert well_formed(output.read_text(encoding="utf-8"))
    assert sorted(file.name for file in story.parent.iterdir()) == [story.name, "out.md"]


def test_two_impatient_ctrl_cs_keep_it_too(tiny_folder: Path, story: Path) -> None:
    with writing(tiny_folder, story, "--continue", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=150)
    assert process.returncode == 130
    past = StoryPrompt.parse(story.read_bytes().decode()).past_story
    assert len(past) > len("The fog came in.")
    assert well_formed(past)


def test_nothing_that_is_written_steers_a_terminal(tmp_path: Path, terminal: tuple[int, int]) -> None:
    file = tmp_path / "p.md"
    file.write_text("a\x1b[31mb\u202e", encoding="utf-8")
    subprocess.run([sys.executable, "-c", MAIN, "parse", file], stdout=terminal[1], check=True)
    assert os.read(terminal[0], 100) == b"a[31mb\r\n"


def test_a_kill_leaves_the_old_file(tiny_folder: Path, story: Path, terminal: tuple[int, int]) -> None:
    output = story.with_name("out.md")
    output.write_text("old", encoding="utf-8")
    with writing(tiny_folder, story, "-o", output, "--continue", stdout=terminal[1]) as process:
        os.read(terminal[0], 1)
        process.kill()
        process.wait()
    assert output.read_text(encoding="utf-8") == "old"
    assert story.read_text(encoding="utf-8") == STORY
    assert sorted(file.name for file in story.parent.iterdir()) == [story.name, "out.md"]


def test_a_reader_who_goes_away_is_no_error(tiny_folder: Path, story: Path) -> None:
    with writing(tiny_folder, story, "--continue", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        assert process.wait(timeout=150) == 141
        assert process.stderr.read() == b""
    assert len(StoryPrompt.parse(story.read_bytes().decode()).past_story) > len("The fog came in.")


def test_help_imports_no_torch() -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    path = f"import sys; sys.path.insert(0, {str(source)!r})"
    script = f"{path}; import spellbound.cli; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
