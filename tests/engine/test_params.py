"""The sampling record refuses what cannot be meant."""

import pytest

from spellbound.engine import SamplingParams
from spellbound.errors import InputError

NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", NAN),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", NAN),
        ("min_p", -0.1),
        ("min_p", 1.0),
        ("repetition_penalty", 0.9),
        ("repetition_penalty", 11.0),
        ("repetition_window", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("seed", 1.5),
        ("repetition_window", 0.5),
    ],
)
def test_bad_value_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .*; give a number"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_edges_are_accepted() -> None:
    SamplingParams(temperature=0.0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, repetition_window=0)
    SamplingParams(temperature=100.0, top_p=1e-6, min_p=0.999, seed=2**63 - 1, max_tokens=1)
