"""What the documents say about the repository is so."""

import re
import subprocess
from pathlib import Path

import pytest

from spellbound.data.checks import DESCRIPTIONS
from tools import cli_docs

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

# Written so that this file does not hold what it looks for.
NOT_HERE = {
    "a path of one machine": r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/",
    "a temporary folder of one machine": r"(?<![\w.])/tm[p]/\w",
    "a registry's host": r"pyp[i]\.org|pythonhoste[d]|registry\.npmj[s]|download\.pytorc[h]|deb\.debia[n]",
    "a merge left open": r"^(?:<{7}|>{7}) ",
}


def tracked() -> list[Path]:
    """Return the files that git keeps, or would if they were added now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def tree_in_readme() -> dict[str, str]:
    """Return path -> remark of the README's file tree: two spaces a level, then name and remark."""
    block = re.search(r"^```tree\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block, "README.md has no ```tree block"
    entries: dict[str, str] = {}
    above: list[str] = []
    for line in block[1].splitlines():
        match = re.fullmatch(r"((?:  )*)(\S+)(?:\s{2,}(.*))?", line)
        assert match, f"not a line of a tree: {line!r}"
        depth = len(match[1]) // 2
        above[depth:] = [match[2].rstrip("/")]
        entries["/".join(above)] = match[3] or ""
    return entries


def test_every_make_command_in_a_document_exists() -> None:
    assert {"install", "story", "test", "check", "bench", "constraints", "clean"} <= TARGETS
    for page in PAGES:
        commands = re.findall(
            r"(?:^|`)(?:[A-Z_]+=\S+ )*make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert set(commands) <= TARGETS, page


def test_the_readme_begins_with_the_two_commands() -> None:
    assert README.index("make story") < README.index("make test")


def test_the_readmes_tree_has_only_what_exists_and_a_remark_on_each() -> None:
    for path, remark in tree_in_readme().items():
        assert (ROOT / path).exists(), f"README.md's tree has {path}"
        assert remark, f"README.md's tree says nothing about {path}"


def test_the_readmes_tree_has_all_that_exists() -> None:
    entries = tree_in_readme()
    inside = (
        "src",
        "src/spellbound",
        "src/spellbound/data",
        "src/spellbound/jamba",
        "recipes",
        "tests",
        "models",
    )
    wanted = set()
    for file in tracked():
        parts = file.relative_to(ROOT).parts
        wanted.add(parts[0])
        for depth in range(1, len(parts) - 1):
            if "/".join(parts[:depth]) in inside:
                wanted.add("/".join(parts[: depth + 1]))
    private = {name for name in wanted if name.startswith(".") and name != ".ci"}
    assert sorted(wanted - private - entries.keys()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_cli_page_is_what_the_program_says() -> None:
    assert cli_docs.PAGE.read_text(encoding="utf-8") == cli_docs.render(), "docs/cli.md is stale: make docs"


def test_the_data_page_explains_every_kind_of_check() -> None:
    table = "\n".join(f"| `{kind}` | {asked} |" for kind, asked in DESCRIPTIONS.items())
    assert table in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and data are not text
        for what, pattern in NOT_HERE.items():
            found += [
                f"{file.relative_to(ROOT)}: {what}: {hit[0]!r}"
                for hit in re.finditer(pattern, text, re.MULTILINE)
            ]
    assert found == []
