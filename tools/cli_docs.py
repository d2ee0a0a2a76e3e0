"""Write docs/cli.md, the help of every command as the program itself prints it: `make docs`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_group

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"

INTRODUCTION = """\
# The command line

What `spellbound --help` and the help of each command print. `make docs` writes it; a test fails when stale.
"""


def help_of(*command: str) -> str:
    """Run the program for its help, at a width and without colours that no machine's settings change."""
    plain = {
        "COLUMNS": "100",
        "TERMINAL_WIDTH": "100",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    code = "import sys; sys.argv[0] = 'spellbound'; from spellbound.cli import main; main()"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
    output = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        env=kept | plain,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def commands(group: Any, *parents: str) -> Iterator[tuple[str, ...]]:
    """Every command by its words, a group before its own."""
    for name, command in group.commands.items():
        yield (*parents, name)
        if hasattr(command, "commands"):
            yield from commands(command, *parents, name)


def render() -> str:
    """Return the whole page."""
    from spellbound.cli import app

    sections = [INTRODUCTION, f"```\n{help_of()}\n```\n"]
    sections += [
        f"#{'#' * len(words)} spellbound {' '.join(words)}\n\n```\n{help_of(*words)}\n```\n"
        for words in commands(get_group(app))
    ]
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
