"""The report of a build as a table, and the settings of its annotators from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spellbound.cli.data.settings import gathered
from spellbound.errors import InputError


def settings_of(path: Path | None, changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by name of annotator or instructor: tables of a file, and `NAME.KEY=VALUE` over them.

    Raises InputError for anything else.
    """
    tables = gathered("", path, ())
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} stands outside a table; put it under [derive] or the like")
    for key, value in gathered("", None, changes).items():
        name, dot, setting = key.partition(".")
        if not dot:
            raise InputError(f"--set {key}: say whose setting it is, for example derive.seed=7")
        tables.setdefault(name, {})[setting] = value
    return tables


def build_table(report: dict[str, Any]) -> str:
    """What was built, as lines of text."""
    languages: dict[str, dict[str, int]] = report["languages"]
    columns = ["documents", "stories", "examples"]
    rows = [["language", *columns]]
    rows += [[code, *(f"{each[what]:,}" for what in columns)] for code, each in languages.items()]
    rows.append(["all", *(f"{sum(each[what] for each in languages.values()):,}" for what in columns)])
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in range(1, 4))])
        for row in rows
    ]
    documents, examples, files = report["documents"], report["examples"], report["files"]
    refused = ", ".join(f"{code} {count:,}" for code, count in examples["refused"].items()) or "none"
    return "\n".join(
        [
            *lines,
            f"files {files['read']:,} read, {files['refused']:,} refused",
            f"documents {documents['refused']:,} refused, {documents['repeated']:,} repeated",
            f"examples {examples['made']:,} made; refused: {refused}",
            f"examples {examples['duplicates']:,} repeated, {examples['near_duplicates']:,} nearly repeated",
        ]
    )
