from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.nano import packing
from recipes.nano.packing import IGNORED, Sequence
from spellbound.errors import InputError

LENGTH = 16


def sequence(ids: list[int], given: int = 1) -> Sequence:
    return Sequence(np.array(ids, dtype=np.uint16), given)


SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(1, 65_535), min_size=1, max_size=LENGTH), st.integers(1, 20)).map(
        lambda made: sequence(*made)
    ),
    max_size=80,
)


@settings(max_examples=60, deadline=None)
@given(SEQUENCES)
def test_packing_keeps_every_sequence_whole(sequences: list[Sequence]) -> None:
    rows = list(packing.pack(sequences, LENGTH))
    assert all(sum(len(one.ids) for one in row) <= LENGTH for row in rows)
    assert sorted(id(one) for row in rows for one in row) == sorted(id(one) for one in sequences)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 70), st.integers(2, LENGTH))
def test_cutting_learns_each_target_once(ids: list[int], given_tokens: int, length: int) -> None:
    targets: list[int] = []
    for piece in packing.cut(sequence(ids, given_tokens), length):
        assert 1 <= len(piece.ids) <= length
        targets += list(piece.ids[piece.given :])
    assert targets == ids[given_tokens:]


def test_rows_have_labels_only_where_something_is_learnt(tmp_path: Path) -> None:
    row = [sequence([1, 7, 3, 8, 2], given=3), sequence([1, 9, 2])]
    assert packing.write(tmp_path / "rows", [row], 10, 0, {"made_of": "tests"}) == 1
    rows = packing.read(tmp_path / "rows")
    batch = rows.batch([0])
    assert batch["input_ids"].tolist() == [[1, 7, 3, 8, 2, 1, 9, 2, 0, 0]]
    assert batch["document_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 2, 2]]
    none = IGNORED
    assert batch["labels"].tolist() == [[none, none, none, 8, 2, none, 9, 2, none, none]]
    assert (rows.meta["tokens"], rows.meta["learnt_tokens"], rows.meta["made_of"]) == (8, 4, "tests")


def test_a_sequence_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens does not fit a row of 16"):
        list(packing.pack([sequence([1] * 17)], LENGTH))


def test_missing_empty_and_damaged_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m recipes\.nano\.data"):
        packing.read(tmp_path / "none")
    packing.write(tmp_path / "empty", [], LENGTH, 0, {})
    with pytest.raises(InputError, match="holds no rows"):
        packing.read(tmp_path / "empty")
    packing.write(tmp_path / "rows", [[sequence([1, 2])]], LENGTH, 0, {})
    (tmp_path / "rows" / "tokens.bin").write_bytes(b"\0")
    with pytest.raises(InputError, match=r"not as meta\.json says"):
        packing.read(tmp_path / "rows")
