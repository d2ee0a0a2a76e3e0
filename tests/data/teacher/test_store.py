"""The store: what is in it stays, what is not one is refused."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.teacher.replies import Reply
from spellbound.data.teacher.store import FILE, Store
from spellbound.errors import EnvironmentFault, InputError
from spellbound.retrying import waiting_time


def entered(store: Store, cost: float, limit: float) -> int:
    call = store.reserve(cost, limit)
    assert call is not None
    return call


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_answer_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "store"
    reply = Reply(content=text, finish="stop", input_tokens=3, output_tokens=4)
    with Store(folder) as store:
        store.settle(entered(store, 1, 0), 0.5, "key", reply)
        assert store.find("key") == reply
        assert store.find("other") is None


def test_money_of_calls_under_way_is_spent_until_they_end(tmp_path: Path) -> None:
    with Store(tmp_path) as store, Store(tmp_path) as other:
        first, second = entered(store, 3, 10), entered(other, 4, 10)
        assert store.spent() == 7
        assert store.reserve(4, 10) is None
        assert store.spent() == 7
        store.settle(first, 1)
        other.release(second)
        assert other.spent() == 1
    with Store(tmp_path) as store:
        assert store.spent() == 1


def test_several_stores_of_one_file_keep_the_limit(tmp_path: Path) -> None:
    made: list[float] = []

    def work() -> None:
        with Store(tmp_path) as store:
            for _ in range(10):
                if (call := store.reserve(1, 20)) is None:
                    return
                store.settle(call, 1)
                made.append(1)

    with Store(tmp_path):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 20


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a diary " * 200)
    with pytest.raises(InputError, match="give another cache"):
        Store(tmp_path)
    assert (tmp_path / FILE).read_text().startswith("a diary")


def test_another_version_is_refused(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / FILE)
    base.execute("PRAGMA user_version = 9")
    base.close()
    with pytest.raises(InputError, match="of version 9, not 1"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(tmp_path / "file" / "cache")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(EnvironmentFault, match="cannot be used"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("3", None, 3.0),
        ("-3", None, 0.0),
        ("nan", None, None),
        ("soon", None, None),
        (None, None, None),
        ("", None, None),
        ("Thu, 01 Jan 1970 00:01:00 GMT", None, 50.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", "Thu, 01 Jan 1970 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", "yesterday", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", None, 0.0),
        ("Thu, 99 Jan 1970 00:00:01 GMT", None, None),
    ],
)
def test_retry_after(header: str | None, date: str | None, seconds: float | None) -> None:
    assert waiting_time(header, date, 10.0) == seconds
