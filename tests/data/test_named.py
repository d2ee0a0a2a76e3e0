"""Annotators and instructors made by name, from settings that people wrote."""

from typing import Any

import pytest

from spellbound.data.annotators import annotator
from spellbound.data.annotators.rules import Rules
from spellbound.data.documents import Person
from spellbound.data.instructions import instructor
from spellbound.data.instructions.derive import Derive
from spellbound.data.instructions.windows import WindowSettings
from spellbound.errors import InputError


def test_values_of_a_file_become_those_of_the_fields() -> None:
    cast = [{"id": "1", "name": "Anna", "details": [["Age", "9"]]}]
    assert annotator("rules", actions="no", cast=cast) == Rules(
        actions=False, cast=(Person(id="1", name="Anna", details=(("Age", "9"),)),)
    )
    assert instructor("derive", seed="7", weights={"mentions": 2}, past_words=[30, 90]) == Derive(
        windows=WindowSettings(seed=7, past_words=(30, 90)), weights={"mentions": 2.0}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", 3),
        ("weights", {"mentions": "often"}),
        ("most", 1.5),
        ("distractors", 1.5),
        ("seed", "abc"),
        ("past_words", 5),
        ("past_words", ["a", "b"]),
        ("completion_words", [1.5, 20]),
        ("instructions", 2.5),
        ("redraw_ids", "perhaps"),
        ("plain", float("nan")),
    ],
)
def test_values_that_no_instructor_can_have_are_one_line(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name}\S* [^\n]*; ?[^\n]*$|^{name} nan is no share"):
        instructor("derive", **{name: value})


@pytest.mark.parametrize("settings", [{"cast": [1]}, {"language": 5}, {"name": "x"}, {"actions": "perhaps"}])
def test_values_that_no_annotator_can_have_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        annotator("rules", **settings)
    with pytest.raises(InputError):
        annotator("drama", **settings)
