"""Damaged files of every kind: read, or refused in one line, and nothing else."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.readers import read, write_documents
from spellbound.errors import InputError
from tests.data.plays import play
from tests.data.reader_files import PLAY, card_chunk, epub, png
from tests.data.test_reader_cards import V3
from tests.data.test_reader_chat import HEADER, MESSAGES, chat_file
from tests.data.test_reader_epub import PAGE
from tests.data.test_reader_markdown import PAGE as MARKDOWN

KINDS = ("a.epub", "a.xml", "a.png", "a.parquet", "a.jsonl.gz", "a.jsonl", "a.md")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    epub(folder / "a.epub", PAGE, PAGE)
    (folder / "a.xml").write_text(PLAY, encoding="utf-8")
    (folder / "a.png").write_bytes(png(card_chunk("ccv3", V3)))
    for name in ("a.parquet", "a.jsonl.gz"):
        write_documents(folder / name, [play(1, 10)])
    chat_file(folder / "a.jsonl", HEADER, *MESSAGES)
    (folder / "a.md").write_text(MARKDOWN, encoding="utf-8")
    return folder


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_damage_is_said_in_one_line(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, changes: list[tuple[float, int, bytes]]
) -> None:
    content = bytearray((whole / name).read_bytes())
    for share, length, put in changes:
        at = int(share * len(content))
        content[at : at + length] = put
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    said: list[str] = []
    with suppress(InputError):
        list(read([path], refused=lambda error: said.append(str(error))))
    assert all(str(path) in each and "\n" not in each for each in said)
