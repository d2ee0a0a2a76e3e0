"""Lines spread over files, and lines sorted on disk."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.pipeline.counts import Counts
from spellbound.data.pipeline.lines import Sorted, Spread, read_lines, write_lines, written
from spellbound.errors import InputError

PAIRS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=20)), max_size=30)


@settings(deadline=None, max_examples=30)
@given(PAIRS, st.integers(1, 200))
def test_sorted_lines_are_in_the_order_of_their_keys(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], most: int
) -> None:
    folder = tmp_path_factory.mktemp("sorted")
    with Sorted(folder, most) as lines:
        for key, text in pairs:
            lines.add(key, written(text))
        assert [json.loads(line) for line in lines.lines()] == [
            text for _, text in sorted(pairs, key=lambda pair: (pair[0], written(pair[1])))
        ]
    assert not list(folder.iterdir())


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=9)), max_size=20), st.integers(1, 60))
def test_spread_lines_are_in_their_files(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], most: int
) -> None:
    paths = [tmp_path_factory.mktemp("spread") / "in" / f"{at}.jsonl" for at in range(3)]
    with Spread(paths, most) as spread:
        for place, text in rows:
            spread.add(place, written(text))
    for at, path in enumerate(paths):
        assert list(read_lines(path)) == [text for place, text in rows if place == at]


def test_after_an_error_no_file_is_there(tmp_path: Path) -> None:
    def fail() -> None:
        with Spread([tmp_path / "a", tmp_path / "b"]) as spread:
            spread.add(0, "1")
            spread.add(2, "1")

    with pytest.raises(IndexError):
        fail()
    assert not list(tmp_path.iterdir())


def test_damaged_lines_are_said(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", ["{"])
    with pytest.raises(InputError, match=r"a\.jsonl: is not as the build left it .*--restart"):
        list(read_lines(tmp_path / "a.jsonl"))


def test_counts_add_up(tmp_path: Path) -> None:
    for name, times in (("a", 1), ("b", 2)):
        counts = Counts()
        counts.add("documents", "en", times)
        counts.add("refused: leak", "")
        counts.write(tmp_path / name)
    together = Counts.together([tmp_path / "a", tmp_path / "b"])
    assert together.by_language("documents") == {"en": 3}
    assert together.reasons("refused: ") == {"leak": 2}
    assert together.by_language("refused: leak") == {"unknown": 2}
