"""The public names, and the page that describes them."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from spellbound import directives
from spellbound.directives import (
    FORMATS,
    MARKS,
    Character,
    RepairCode,
    StoryPrompt,
    StreamParser,
    check_story,
)

PAGE = Path(__file__).parents[2] / "docs" / "directives.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_all_is_what_is_public() -> None:
    public = {
        name
        for name, value in vars(directives).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }
    assert set(directives.__all__) == public
    assert all(getattr(directives, name).__doc__ for name in ("StreamParser", "parse", "render", "grammar"))


@pytest.mark.parametrize("name", [*directives.__all__, *get_args(RepairCode), *FORMATS, *MARKS])
def test_the_page_names_it(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


def test_the_page_session_runs() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_the_page_prompt_is_what_we_write() -> None:
    text = block("prompt")
    assert check_story(text) == []
    assert StoryPrompt.parse(text).render() == text
    assert StoryPrompt.parse(text).characters == (
        Character("Mara Voss", "32AN4R", (("Personality", "dry, brave, keeps her promises"),)),
    )


def test_the_page_output_is_well_formed() -> None:
    parser = StreamParser(["32AN4R"])
    assert len(parser.feed(block("output"))) == 12
    assert parser.close() == []
    assert parser.repairs == []


def test_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, spellbound.directives; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - {"spellbound", "__main__"} <= third_party_of_a_bare_interpreter()


def third_party_of_a_bare_interpreter() -> set[str]:
    """What the environment loads at start, such as an editable install's finder."""
    code = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
