"""The benchmark of the annotator `rules`, on a book of four quotes."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import quotes
from benchmarks.lines import read_file

TEXT = "“One,” said Anna.\n\n“Two,” said Otto.\n\n“Three.”\n\n“Four.”"


def book() -> dict[str, object]:
    spoken = [("“One,”", "Anna"), ("“Two,”", "Otto"), ("“Three.”", "Anna"), ("“Four.”", "Otto")]
    rows = []
    for text, name in spoken:
        start = TEXT.index(text)
        row = {"start": start, "end": start + len(text), "text": text}
        rows.append(row | {"speaker_id": f"{name}-1", "speaker_name": name})
    return {"id": "b", "text": TEXT, "quotes": rows}


def test_a_plain_book_is_all_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.Table.from_pylist([book()]), tmp_path / quotes.FILE)
    quotes.main(["--corpora", str(tmp_path), "--out", str(tmp_path / "out")])
    (kept,) = (tmp_path / "out").glob("quotes_litbank_*.jsonl")
    machine, lines = read_file(kept)
    value = {(line.config, line.what, line.name): line.value for line in lines}
    assert value["all", "quotes, exact, F1", "rules"] == 1
    assert value["all", "speaker accuracy, every quote", "rules, gold cast"] == 1
    assert value["all", "speaker accuracy, every quote", "rules, inferred cast"] == 1
    assert value["all", "speaker accuracy, every quote", "majority speaker"] == 0.5
    assert value["all", "speaker accuracy, every quote", "speaker of two quotes ago"] == 0.5
    assert value["all", "speaker accuracy, explicit quote", "speaker of two quotes ago"] == 0
    assert value["all", "speaker accuracy, other quote", "speaker of two quotes ago"] == 1
    assert "| quotes, exact, F1 | rules | 100.0 % |" in kept.with_suffix(".md").read_text(encoding="utf-8")
    assert json.loads(capsys.readouterr().out.splitlines()[0])["theme"] == "quotes"
    assert str(tmp_path) not in machine.command


def test_a_folder_without_the_book_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"litbank_quotes\.parquet: no such file"):
        quotes.main(["--corpora", str(tmp_path)])
