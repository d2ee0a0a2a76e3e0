"""Resolve the base, every extra and the dev group together and write constraints.txt: `make constraints`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = "spellbound"

# Three equals signs: the registry's own build and no local one (2.13.0+cpu). It pins triton, so what is
# resolved for it also fits the smaller CPU build; the other way round breaks every install with a GPU.
HELD = ["torch===2.13.0"]

# What builds the one source distribution among them, llama.cpp: pip does not report it, and it is pinned too.
BUILD = ["scikit-build-core", "cmake", "ninja"]

HEADER = """\
# Exact versions of everything that the base, the extras and the dev group need; every install uses this file.
# Written by `make constraints`: change pyproject.toml, not this.
"""


def resolve() -> dict[str, str]:
    """Name -> version of the whole tree, pip itself included, as pip would install it into an empty venv."""
    with tempfile.TemporaryDirectory() as folder:
        report, held = Path(folder, "report.json"), Path(folder, "held.txt")
        held.write_text("\n".join(HELD), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        what = [".[all,bench]", "--group", "dev", "pip", *BUILD]
        files = ["--report", str(report), "--constraint", str(held)]
        subprocess.run([*pip, *files, *what], cwd=ROOT, check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    metadata = [entry["metadata"] for entry in installs]
    return {each["name"].lower().replace("_", "-"): each["version"] for each in metadata}


def main() -> None:
    """Write constraints.txt beside pyproject.toml."""
    versions = resolve()
    versions.pop(OURS)
    lines = sorted(f"{name}=={version}\n" for name, version in versions.items())
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
