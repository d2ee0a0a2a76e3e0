"""Names and numbers that stand in two places and must agree."""

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import spellbound

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
PACKAGES = [
    module.name for module in pkgutil.walk_packages(spellbound.__path__, "spellbound.") if module.ispkg
]


def declared() -> list[str]:
    """Return every requirement that pyproject.toml writes down."""
    project = PROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    return [
        *PROJECT["build-system"]["requires"],
        *project["dependencies"],
        *(each for group in groups for each in group),
    ]


@pytest.mark.parametrize("line", sorted(set(declared())))
def test_each_requirement_is_pinned_at_a_version_it_allows(line: str) -> None:
    requirement = Requirement(line)
    if requirement.name == "spellbound":
        return
    version = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_pins_are_exact_and_in_order() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in PINS.values())
    assert list(PINS) == sorted(PINS, key=lambda name: f"{name}==")
    assert PINS["torch"] == "2.13.0"
    assert "pip" in PINS


def test_all_is_every_extra_but_the_one_that_compiles() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (line,) = extras["all"]
    assert Requirement(line).extras == set(extras) - {"all", "bench"}


def test_the_changelog_is_open_and_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_exactly_what_is_public(name: str) -> None:
    package = importlib.import_module(name)
    public = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(getattr(package, "__all__", ()))
