"""docs/performance.md: what is written by hand in ``page.md``, filled with the newest results."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks import report
from benchmarks.aims import aims_of
from benchmarks.lines import Machine, read_file

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).with_name("page.md")
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "performance.md"


def write() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")


def render(template: str | None = None, results: Path = RESULTS) -> str:
    """Return the page: each ``{{theme}}`` of the template replaced by that theme's newest results."""
    text = TEMPLATE.read_text(encoding="utf-8") if template is None else template
    newest = newest_files(results.glob("*.jsonl"))
    for theme in report.TITLES:
        sections = [_section(path) for (of, _), path in sorted(newest.items()) if of == theme]
        text = text.replace(f"{{{{{theme}}}}}", "\n\n".join(sections) or "*Not measured yet.*")
    return text


def newest_files(paths: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Return the newest file of each theme and hardware; of one day, the one with the highest number."""
    found: dict[tuple[str, str], tuple[tuple[str, int], Path]] = {}
    for path in paths:
        theme, hardware, day = path.stem.split("_")
        number = int(day[11:] or 1)
        age = (day[:10], number)
        if (theme, hardware) not in found or found[theme, hardware][0] < age:
            found[theme, hardware] = (age, path)
    return {key: path for key, (_, path) in found.items()}


def _section(path: Path) -> str:
    machine, lines = read_file(path)
    theme = path.stem.split("_")[0]
    where = f"../benchmarks/results/{path.stem}"
    parts = [f"### {_heading(machine)}", report.machine_text(machine)]
    if aims_of(theme, machine.hardware):
        parts.append(report.aims_table(machine, lines))
    if path.with_suffix(".png").exists():
        parts.append(f"![{report.TITLES[theme]}, {machine.hardware}]({where}.png)")
    parts.append(f"[Every measurement of this run]({where}.md), [as JSON lines]({where}.jsonl).")
    return "\n\n".join(parts)


def _heading(machine: Machine) -> str:
    return f"{machine.hardware}, {machine.date}"
