"""`spellbound data read` as a user runs it."""

from pathlib import Path

import pytest

from spellbound.cli import main
from spellbound.data.readers import read_documents
from tests.data.reader_files import png


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["spellbound", "data", "read", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def shelf(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.txt").write_text("Die Glocke ruft.")
    (folder / "b.md").write_text("---\nlanguage: fr\n---\nLa cloche sonne.")
    return folder


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_folder_becomes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    output = tmp_path / f"d.{ending}"
    status, out, err = run(
        capsys, shelf(tmp_path / "shelf"), "-o", output, "--language", "de", "--licence", "CC0-1.0"
    )
    assert (status, err) == (0, "")
    assert out == f"{output}: 2 documents, 32 characters (de 1, fr 1)\n"
    assert [(each.id, each.licence) for each in read_documents([output])] == [
        ("shelf/a", "CC0-1.0"),
        ("shelf/b", "CC0-1.0"),
    ]


def test_an_unknown_language_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("Oh.")
    _, out, _ = run(capsys, tmp_path / "a.txt", "-o", tmp_path / "d.jsonl")
    assert "(unknown 1); give --language" in out


def test_a_bad_file_ends_it_and_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shelf(tmp_path / "shelf")
    (folder / "c.epub").write_bytes(b"no zip")
    status, out, err = run(capsys, folder, "-o", tmp_path / "d.parquet")
    assert (status, out) == (2, "")
    assert err.startswith("spellbound: ")
    assert "c.epub: is no whole zip file" in err
    assert not (tmp_path / "d.parquet").exists()


def test_keep_going_says_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shelf(tmp_path / "shelf")
    (folder / "c.epub").write_bytes(b"no zip")
    status, out, err = run(capsys, folder, "-o", tmp_path / "d.parquet", "--keep-going")
    assert status == 2
    assert "2 documents" in out
    assert "1 files left out" in out
    assert "c.epub" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.txt", "-o", "d.parquet"], "none.txt: is not there"),
        (["a.txt", "-o", "d.csv"], "neither .parquet nor .jsonl"),
        (["a.txt", "-o", "d.parquet", "--language", "english"], "is not ISO 639-1"),
        (["a.txt", "-o", "d.parquet", "--encoding", "x"], "encoding 'x' is unknown"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "a.txt").write_text("One.")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        status, _, err = run(capsys, *arguments)
    assert status == 2
    assert said in err


@pytest.mark.parametrize("name", ["shelf", "shelf/d.jsonl"])
def test_the_result_is_never_one_of_its_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    output = shelf(tmp_path / "shelf") / "d.jsonl"
    assert run(capsys, tmp_path / "shelf", "-o", output)[0] == 0
    before = output.read_bytes()
    status, _, err = run(capsys, tmp_path / name, "-o", output)
    assert (status, err.count("\n")) == (2, 1)
    assert "give another name" in err
    assert output.read_bytes() == before


def test_ids_that_are_not_unique_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = '{"id": "x", "lang": "en", "text": "The bell rings."}\n'
    (tmp_path / "rows.jsonl").write_text(row * 3)
    _, out, _ = run(capsys, tmp_path / "rows.jsonl", "-o", tmp_path / "d.jsonl")
    assert out.endswith("3 documents, 45 characters (en 3); 2 with the id of another, give each its own\n")


def mix(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a.docx", "b.html", "c.pdf", "letters"):
        (folder / name).write_bytes(b"%PDF-1.7")
    (folder / "photo.png").write_bytes(png())
    (folder / ".hidden.docx").write_text("no")
    return folder


@pytest.mark.parametrize("options", [(), ("--keep-going",)])
def test_files_that_no_reader_knows_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    folder = mix(tmp_path / "mix")
    (folder / "z.txt").write_text("The bell rings.")
    status, out, err = run(capsys, folder, "-o", tmp_path / "d.jsonl", *options)
    assert (status, "1 documents" in out) == (0, True)
    named = ", ".join(str(folder / name) for name in ("a.docx", "b.html", "c.pdf"))
    assert err == f"spellbound: 5 files that no reader knows left out: {named} and 2 more\n"


@pytest.mark.parametrize("options", [(), ("--keep-going",)])
def test_without_any_document_there_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    status, out, err = run(capsys, mix(tmp_path / "mix"), "-o", tmp_path / "d.jsonl", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has no document that can be read (5 files that no reader knows left out" in err
    assert not (tmp_path / "d.jsonl").exists()


def test_where_every_file_is_refused_each_is_named_and_there_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.epub").write_bytes(b"no zip")
    status, _, err = run(capsys, tmp_path / "c.epub", "-o", tmp_path / "d.parquet", "--keep-going")
    assert status == 2
    assert "c.epub: is no whole zip file" in err
    assert "has no document that can be read; give" in err
    assert not (tmp_path / "d.parquet").exists()
