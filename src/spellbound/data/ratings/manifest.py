"""Beside what was made of ratings: which consents it was made under, how, and what became of every rating."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spellbound.data.ratings.consent import Ledger
from spellbound.data.ratings.report import Report
from spellbound.files import replacing


def manifest_of(output: Path) -> Path:
    """Return where the manifest of a file stands."""
    return output.with_name(f"{output.name}.manifest.json")


def write_manifest(output: Path, ledger: Ledger, rules: Any, report: Report) -> Path:
    """Write the manifest of a finished file; it names no reader and no folder. Return its path."""
    terms = ledger.terms
    content = {
        "file": output.name,
        "sha256": _digest(output),
        "rows": report.rows,
        "made_at": terms.at.isoformat(),
        "spellbound": version("spellbound"),
        "consent": {
            "snapshot": ledger.digest,
            "events": ledger.events,
            "live_readers": ledger.live,
            "scope": terms.scope,
            "versions": sorted(terms.versions),
        },
        "settings": asdict(rules) if is_dataclass(rules) and not isinstance(rules, type) else {},
        "ratings": {
            "read": report.read,
            "used": report.used,
            "left_out": {reason.value: count for reason, count in sorted(report.left_out.items()) if count},
        },
    }
    target = manifest_of(output)
    with replacing(target) as draft:
        draft.write_text(
            json.dumps(content, indent=2, default=sorted, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return target


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
