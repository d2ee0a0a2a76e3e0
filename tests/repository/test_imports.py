"""Which room may import which, and what each may drag in from outside."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "spellbound"

# Some of these are still to come; each is held to it from its first day.
WITHOUT_TORCH = ["directives", "story", "store", "studio", "server", "cli"]

CONTRACT = """\
[tool.importlinter]
root_package = "house"
contract_types = ["rooms: tools.rooms.RoomsContract"]

[[tool.importlinter.contracts]]
name = "House rule"
type = "rooms"
package = "house"
everywhere = ["errors"]
rooms = ["kitchen:", "hall: kitchen", "hall.door: hall, garden", "garden:", "attic: *", "cellar: garden"]
"""


def imported_by(file: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", sorted((SOURCE / "directives").rglob("*.py")), ids=lambda file: file.name)
def test_directives_need_only_the_standard_library(file: Path) -> None:
    ours = ("spellbound.directives", "spellbound.errors")
    foreign = {name for name in imported_by(file) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith(ours)} == set()


def test_some_room_is_looked_at() -> None:
    assert list((SOURCE / "directives").rglob("*.py"))


@pytest.mark.parametrize("room", [room for room in WITHOUT_TORCH if (SOURCE / room).is_dir()])
def test_a_room_imports_without_torch(room: str) -> None:
    code = f"import sys, spellbound.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def lint(folder: Path, files: dict[str, str]) -> tuple[int, str]:
    """Run import-linter with our contract over a package made of these files; it has no cellar yet."""
    (folder / "pyproject.toml").write_text(CONTRACT, encoding="utf-8")
    for name, source in (
        {"__init__.py": "", "errors.py": "", "kitchen.py": "", "garden.py": ""} | files
    ).items():
        file = folder / "house" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(source, encoding="utf-8")
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "COLUMNS": "200"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    "files",
    [
        {"kitchen.py": "import house.errors", "hall/sofa.py": "import house.kitchen"},
        {"hall/sofa.py": "import house.hall.lamp", "hall/lamp.py": ""},
        {"hall/door.py": "import house.hall.lamp\nimport house.garden", "hall/lamp.py": ""},
        {"attic.py": "import house.kitchen\nimport house.garden"},
    ],
    ids=["a row and errors", "the same room", "a room within a room", "a room that may import anything"],
)
def test_what_the_table_allows_is_kept(tmp_path: Path, files: dict[str, str]) -> None:
    status, output = lint(tmp_path, files)
    assert status == 0, output


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"kitchen.py": "\nimport house.garden"}, "house.kitchen:2 may not import house.garden"),
        (
            {"kitchen.py": "def cook():\n    import house.garden"},
            "house.kitchen:2 may not import house.garden",
        ),
        ({"hall/sofa.py": "import house.garden"}, "house.hall.sofa:1 may not import house.garden"),
        (
            {"hall/sofa.py": "import house.hall.door", "hall/door.py": ""},
            "house.hall.sofa:1 may not import house.hall.door",
        ),
        ({"errors.py": "import house.kitchen"}, "house.errors:1 may not import house.kitchen"),
        ({"stable.py": ""}, "house.stable is in no room of the table"),
    ],
    ids=[
        "another room",
        "inside a function",
        "only the inner room may",
        "the inner room",
        "errors",
        "no row",
    ],
)
def test_what_it_does_not_allow_is_broken(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    status, output = lint(tmp_path, files)
    assert status != 0
    assert complaint in output
