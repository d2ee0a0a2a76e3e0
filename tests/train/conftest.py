"""A few examples and documents as files, and a recipe over them and the tiny model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spellbound.data.documents import Document
from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.readers import write_documents
from spellbound.data.rows import write_examples
from spellbound.directives import Character, StoryPrompt
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import recipe_from

MARA = Character("Mara", "32AN4R", (("Personality", "dry"),))


def example(number: int, words: int = 3, **changes: Any) -> Example:
    """One example; the higher the number, the longer its past."""
    past = " ".join(["The bell rang."] * (number % 5))
    said = " ".join(["So it is."] * words)
    given: dict[str, Any] = {
        "id": f"example-{number}",
        "prompt": StoryPrompt((MARA,), past, (f"Mara counts to {number}.",)),
        "completion": f'<quote speaker="32AN4R">{said}</quote>',
        "weight": 1.0 + number % 3,
        "source": f"story-{number // 2}",
        "provenance": Provenance(annotator="test"),
    }
    return Example(**{**given, **changes})


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write examples.jsonl, valid.jsonl and documents.jsonl into a folder."""
    folder = tmp_path_factory.mktemp("files")
    write_examples(folder / "examples.jsonl", [example(number) for number in range(12)])
    write_examples(folder / "valid.jsonl", [example(number, 2) for number in range(20, 24)])
    documents = [
        Document(id=f"tale-{number}", text="\n\n".join(["Once there was a bell."] * (1 + 4 * number)))
        for number in range(8)
    ]
    write_documents(folder / "documents.jsonl", documents)
    return folder


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Leave as many threads as there were: a run that goes on takes the number it began with."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def values(files: Path, tiny_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a recipe: full training of the tiny model for a few steps."""
    return {
        "method": "full",
        "model": {"base": str(tiny_folder)},
        "data": {
            "examples": [{"path": str(files / "examples.jsonl")}],
            "text": [{"path": str(files / "documents.jsonl"), "repeats": 1.5}],
            "validation": [{"path": str(files / "valid.jsonl")}],
            "length": 400,
        },
        "schedule": {"steps": 8, "batch": 4, "rate": 1e-3, "seed": 5},
        "compute": {"precision": "fp32"},
        "run": {
            "folder": str(tmp_path / "run"),
            "log_every": 2,
            "validate_every": 3,
            "checkpoint_steps": 1,
            "samples": 0,
        },
    }


@pytest.fixture
def recipe(values: dict[str, Any]) -> Recipe:
    """The recipe of these values."""
    return recipe_from(values, "test")
