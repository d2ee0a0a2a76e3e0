"""The log: added to at its end, whole or not at all, and rewritten only to erase a reader."""

import threading
from pathlib import Path

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from spellbound.data.ratings import Consent, Rating, RatingLog, append, purge, read_consents, withdraw
from spellbound.data.rows import write_rows
from spellbound.errors import InputError
from tests.data.ratings import day, given, ledger, rating, reader, withdrawn

ROWS = [
    rating(1),
    rating(2, flags=[{"kind": "dull", "line": 1}, {"kind": "harmful", "span": [0, 2]}]),
    rating(3),
]


def read(path: Path) -> list[Rating]:
    return [row for _, row in RatingLog([path])]


def test_rows_are_added_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    assert append(path, ROWS[:1]) == 1
    before = path.read_bytes()
    assert append(path, ROWS[1:]) == 2
    assert path.read_bytes().startswith(before)
    assert read(path) == ROWS
    append(tmp_path / "consent.jsonl", [given(), withdrawn()])
    assert list(read_consents([tmp_path / "consent.jsonl"])) == [given(), withdrawn()]


def test_the_same_rows_in_parquet(tmp_path: Path) -> None:
    write_rows(tmp_path / "ratings.parquet", ROWS, Rating)
    write_rows(tmp_path / "consent.parquet", [given(revives=True), withdrawn()], Consent)
    assert read(tmp_path / "ratings.parquet") == ROWS
    assert list(read_consents([tmp_path / "consent.parquet"])) == [given(revives=True), withdrawn()]


def test_nothing_is_added_to_a_log_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    append(path, ROWS)
    path.write_bytes(path.read_bytes()[:-9])
    before = path.read_bytes()
    with pytest.raises(InputError, match="the last line is cut off"):
        append(path, ROWS)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="row 3: is not JSON"):
        read(path)


def test_where_no_rows_can_be_added(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can be added to \.jsonl logs only"):
        append(tmp_path / "ratings.parquet", ROWS)
    with pytest.raises(InputError, match="create it"):
        append(tmp_path / "none" / "ratings.jsonl", ROWS)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        append(tmp_path / "folder.jsonl", ROWS)


def test_a_name_in_the_place_of_a_key_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    append(path, ROWS[:1])
    path.write_text(path.read_text().replace(reader(1), "mara@example.org"))
    with pytest.raises(InputError, match="row 1, user: is not u1- and 32") as refused:
        read(path)
    assert "mara" not in str(refused.value)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_purge_leaves_the_others(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ratings.{ending}"
    write_rows(path, [*ROWS, *ROWS], Rating)
    assert purge(path, reader(2)) == 2
    assert read(path) == [ROWS[0], ROWS[2]] * 2
    assert purge(path, reader(2)) == 0
    assert reader(2).encode() not in path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@example(st.lists(st.integers(1, 4), max_size=9), st.integers(1, 4))
def test_a_purge_keeps_every_other_byte(
    tmp_path_factory: pytest.TempPathFactory, users: list[int], gone: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "ratings.jsonl"
    lines = [f'{{"user": "{reader(user)}",  "x": {at}}}\r\n\n'.encode() for at, user in enumerate(users)]
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines) if users[:1] not in ([], [gone]) else b"".join(lines))
    assert purge(path, reader(gone)) == users.count(gone)
    kept = b"".join(b"\n" if user == gone else line for line, user in zip(lines, users, strict=True))
    assert path.read_bytes().removeprefix(b"\xef\xbb\xbf") == kept


@pytest.mark.parametrize("broken", [b'{"user": "u1-', b"[]\n", b"{}\n", b"\xff\n"])
def test_a_row_that_may_be_theirs_stops_a_purge(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "ratings.jsonl"
    append(path, ROWS)
    path.write_bytes(path.read_bytes() + broken)
    before = path.read_bytes()
    with pytest.raises(InputError, match="row 4: names no user, so it may be theirs"):
        purge(path, reader(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_purged(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").touch()
    with pytest.raises(InputError, match="unpack it"):
        purge(tmp_path / "x.jsonl.gz", reader(1))
    with pytest.raises(InputError, match="there is no such file"):
        purge(tmp_path / "none.jsonl", reader(1))
    with pytest.raises(InputError, match="the user key"):
        purge(tmp_path / "x.jsonl.gz", "mara")


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    append(path, [rating(9)])

    def write(who: int) -> None:
        for _ in range(10):
            append(path, [rating(who)])

    writers = [threading.Thread(target=write, args=(who,)) for who in (1, 2, 3)]
    for writer in writers:
        writer.start()
    purge(path, reader(9))
    for writer in writers:
        writer.join()
    assert sorted(row.user for row in read(path)) == sorted(
        reader(who) for who in (1, 2, 3) for _ in range(10)
    )


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_purge_leaves_withdrawals(tmp_path: Path, ending: str) -> None:
    """Else a consent in another file of the log would live again."""
    path = tmp_path / f"later.{ending}"
    write_rows(path, [given(2), withdrawn(1), given(1), withdrawn(2)], Consent)
    assert purge(path, reader(1)) == 1
    assert list(read_consents([path])) == [given(2), withdrawn(1), withdrawn(2)]
    assert ledger([given(1), *read_consents([path])]).refusal(rating(1)) is not None


def test_a_withdrawal_is_heard_though_the_clock_is_slow(tmp_path: Path) -> None:
    path = tmp_path / "consent.jsonl"
    ahead = day(400_000)  # a server whose clock was far ahead
    append(path, [given(1, time=ahead), given(2)])
    assert withdraw(path, reader(1), ["training"])
    assert not withdraw(path, reader(3), ["training", "evaluation"])
    events = list(read_consents([path]))
    assert [event.event for event in events] == ["given", "given", "withdrawn", "withdrawn"]
    assert (events[2].time, events[2].scopes) == (ahead, ("training",))
    late = ledger(events, at=500_000)
    assert late.refusal(rating(1, time=day(400_001))) is not None
    assert late.refusal(rating(2)) is None
