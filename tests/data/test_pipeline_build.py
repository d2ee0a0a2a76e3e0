"""Builds on this machine: the rows do not depend on how the work was cut, and nothing is lost in silence."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spellbound.data.check import Limits
from spellbound.data.documents import Document, Part
from spellbound.data.pipeline import Build, build
from spellbound.data.pipeline.executors import Cluster, run_here
from spellbound.data.pipeline.run import require_ended
from spellbound.data.pipeline.stages import Stage
from spellbound.data.readers import write_documents
from spellbound.data.rows import read_examples, read_tagged
from spellbound.errors import EnvironmentFault, InputError
from tests.data.plays import play, result, shelf


def asked(source: Path, output: Path, **settings: Any) -> Build:
    return Build(sources=(source,), output=output, annotators=("drama",), **settings)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf(tmp_path_factory.mktemp("books") / "shelf", plays=6, speeches=40)


@pytest.fixture(scope="module")
def whole(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build of these books as one task."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    build(asked(books, folder, tasks=1))
    return folder


def test_rows_are_sorted_and_checked_and_the_report_adds_up(whole: Path) -> None:
    examples = list(read_examples([whole / "examples.parquet"]))
    stories = list(read_tagged([whole / "tagged.parquet"]))
    report = json.loads((whole / "report.json").read_text())
    assert [each.id for each in examples] == sorted({each.id for each in examples})
    assert [each.id for each in stories] == [f"plays/{number:02d}" for number in range(6)]
    assert {each.source for each in examples} == {each.id for each in stories}
    assert report["files"] == {"read": 3, "refused": 1}
    assert report["documents"] == {"read": 7, "repeated": 0, "refused": 1}
    assert report["examples"]["kept"] == len(examples) > 6
    assert report["languages"]["de"] == {"documents": 6, "stories": 6, "examples": len(examples)}
    refused = [json.loads(line) for line in (whole / "refused.jsonl").read_text().splitlines()]
    assert [(each["id"], each["step"]) for each in refused] == [
        ("shelf/broken", "read"),
        ("shelf/prose", "annotate"),
    ]
    assert not (whole / "work" / "documents").exists()


def test_several_tasks_give_the_same_bytes(books: Path, whole: Path, tmp_path: Path) -> None:
    build(asked(books, tmp_path / "out", tasks=3), Cluster(workers=2))
    assert result(tmp_path / "out") == result(whole)


def test_a_finished_build_is_not_done_again(books: Path, whole: Path) -> None:
    seen: list[str] = []
    before = (whole / "examples.parquet").stat().st_mtime_ns
    built = build(asked(books, whole, tasks=1), on_progress=lambda name, done, tasks: seen.append(name))
    assert built.report == json.loads((whole / "report.json").read_text())
    assert (whole / "examples.parquet").stat().st_mtime_ns == before
    assert seen == []


def test_repeated_documents_and_examples_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    one, other = play(1, 12), play(2, 12)
    same_text = Document(id="plays/copy", parts=one.parts, cast=one.cast, language="de")
    nearly = Document(
        id="plays/nearly",
        parts=(Part(kind="head", text="Anfang"), *one.parts[1:]),
        cast=one.cast,
        language="de",
    )
    same_id = Document(id=one.id, parts=other.parts, cast=other.cast, language="de")
    write_documents(tmp_path / "in" / "a.jsonl", [one, same_text, nearly])
    write_documents(tmp_path / "in" / "b.jsonl", [same_id, other])
    once = {"derive": {"completion_words": [120, 140], "most": 1, "plain": 0.0}}
    limits = Limits(similarity=0.5)
    built = build(asked(tmp_path / "in", tmp_path / "out", tasks=2, settings=once, limits=limits))
    assert built.report is not None
    assert built.report["documents"]["repeated"] == 2
    examples = built.report["examples"]
    assert examples["near_duplicates"] == 1
    assert examples["kept"] == examples["made"] - 1 > 0
    refused = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert [each["why"] for each in refused if each["step"] == "finish"] == [
        "nearly repeats an earlier example"
    ]
    assert [(each["id"], each["why"]) for each in refused if each["step"] == "compare"] == [
        (one.id, "a document before it has the same id"),
        ("plays/copy", "a document before it has the same text"),
    ]


def test_examples_that_fail_a_check_are_refused_by_name(books: Path, tmp_path: Path) -> None:
    built = build(asked(books, tmp_path / "out", tasks=2, limits=Limits(max_words=100)))
    assert built.report is not None
    refused = built.report["examples"]["refused"]["overlong"]
    assert refused > 0
    assert built.report["examples"]["made"] == refused + built.report["examples"]["kept"]
    assert "completion: has" in (tmp_path / "out" / "refused.jsonl").read_text()


def test_another_build_in_the_folder_is_refused(books: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(asked(books, output, tasks=2))
    with pytest.raises(InputError, match=r"out: has a build with other tasks; .*--restart"):
        build(asked(books, output, tasks=3))
    with pytest.raises(InputError, match="with other settings"):
        build(asked(books, output, tasks=2, settings={"derive": {"seed": 7}}))
    built = build(asked(books, output, tasks=2, settings={"derive": {"seed": 7}}), restart=True)
    assert built.report is not None
    assert built.report["built_with"]["settings"] == {"derive": {"seed": 7}}


def test_changed_sources_are_noticed(tmp_path: Path) -> None:
    folder = shelf(tmp_path / "in", plays=2, speeches=10)
    build(asked(folder, tmp_path / "out"))
    (folder / "prose.md").write_text("Other words now.")
    with pytest.raises(InputError, match="with other sources"):
        build(asked(folder, tmp_path / "out"))


def test_sources_of_the_same_length_are_noticed_by_their_time(tmp_path: Path) -> None:
    folder = shelf(tmp_path / "in", plays=2, speeches=10)
    build(asked(folder, tmp_path / "out"))
    os.utime(folder / "prose.md", ns=(1, 1))
    with pytest.raises(InputError, match="with other sources"):
        build(asked(folder, tmp_path / "out"))


def test_only_one_build_at_a_time(books: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    take = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    hold = f"{take}; print(flush=True); input()"
    holder = [sys.executable, "-c", hold, str(tmp_path / "out" / ".lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match="another build is running"):
            build(asked(books, tmp_path / "out"))
        other.communicate(b"\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sources": ()}, "needs sources"),
        ({"tasks": 0}, "tasks 0 is not from 1"),
        ({"annotators": ("none",)}, "annotator 'none' is unknown"),
        ({"annotators": ()}, "annotator 'none' is unknown"),
        ({"instructor": "none"}, "instructor 'none' is unknown"),
        ({"settings": {"teacher": {}}}, "settings of 'teacher', which the build does not use"),
    ],
)
def test_impossible_builds(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Build(**{"sources": (Path("a"),), "output": Path("b"), **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"executor": "cloud"}, "executor 'cloud' is unknown"),
        ({"workers": 0}, "workers 0"),
        ({"executor": "slurm"}, "needs a partition"),
        ({"memory": 0}, "memory 0"),
    ],
)
def test_impossible_clusters(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Cluster(**settings)


def test_wrong_settings_and_empty_folders_are_said_before_any_work(books: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="instructor derive"):
        build(asked(books, tmp_path / "out", settings={"derive": {"colour": "red"}}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no files that can be read"):
        build(asked(tmp_path / "empty", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_within_its_own_source_is_refused(books: Path) -> None:
    with pytest.raises(InputError, match=r"built: lies in the source .*; give a folder outside"):
        asked(books, books / "built")


class Slow:
    """A step whose second task waits for somebody to end it."""

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        (self.folder / f"{rank}").write_text(str(os.getpid()))
        while rank == 1:
            time.sleep(0.01)
        if rank == 2:
            raise InputError("the third task was given something wrong")

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.mark.parametrize("tasks", [2, 3])
def test_a_task_that_the_system_kills_ends_and_nobody_waits_for_it(tmp_path: Path, tasks: int) -> None:
    def kill() -> None:
        while not (process := tmp_path / "1").exists() or not process.read_text():
            time.sleep(0.01)
        os.kill(int(process.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    stage = Stage(name="slow", step=Slow(tmp_path), tasks=tasks)
    with pytest.raises(InputError, match="third task") if tasks == 3 else contextlib.nullcontext():
        run_here(stage, tmp_path, Cluster(workers=tasks))
    killer.join()
    with pytest.raises(EnvironmentFault, match=f"{tasks - 1} of {tasks} tasks of stage slow failed, see "):
        require_ended(stage, tmp_path)
