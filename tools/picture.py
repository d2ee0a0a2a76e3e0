"""Write docs/images/story.svg, the README's picture: a real run of `make story`, as a terminal shows it."""

import io
import os
import re
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "story.svg"
WIDTH = 84


def story_as_shown() -> str:
    """Run the command and return what it prints, with the terminal's colours."""
    terminal = {
        "FORCE_COLOR": "1",
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "PYTHONIOENCODING": "utf-8",
    }
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | terminal
    command = ["make", "--silent", "--no-print-directory", "story"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout


def main() -> None:
    """Draw the picture."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble("$ make story\n\n", Text.from_ansi(story_as_shown())))
    # A fixed id keeps the file the same when the story is.
    svg = console.export_svg(title="Spellbound", unique_id="story")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    # A picture fetches nothing: without the web font the viewer's own monospace is used.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
