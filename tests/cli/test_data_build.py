"""`spellbound data build` as a user runs it: killed and resumed, on a Ray cluster, and handed to Slurm."""

import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spellbound.cli import main
from spellbound.data.pipeline import Build, build
from tests.data.plays import result, shelf

TASKS = 4


def command(source: Path, output: Path, *further: object) -> list[str]:
    start = "from spellbound.cli import main; main()"
    fixed = ["data", "build", str(source), "-o", str(output), "--with", "drama"]
    return [sys.executable, "-c", start, *fixed, *map(str, further)]


def run(source: Path, output: Path, *further: object, path: str = "") -> "subprocess.CompletedProcess[str]":
    place = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else None
    return subprocess.run(
        command(source, output, *further), capture_output=True, text=True, check=False, env=place
    )


def run_here(
    capsys: pytest.CaptureFixture[str], source: Path, output: Path, *further: object
) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["spellbound", *command(source, output, *further)[3:]])
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf(tmp_path_factory.mktemp("books") / "shelf", plays=8, speeches=100)


@pytest.fixture(scope="module")
def whole(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken build of these books."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    build(Build(sources=(books,), output=folder, annotators=("drama",), tasks=TASKS))
    return folder


def test_the_report_is_a_table(books: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run_here(capsys, books, whole, "--tasks", TASKS)
    assert status == 2
    assert out.splitlines()[0].split() == ["language", "documents", "stories", "examples"]
    assert re.search(r"^de +8 +8 +\d+$", out, re.M)
    assert "files 3 read, 1 refused" in out
    assert err == f"spellbound: some files could not be read; {whole / 'refused.jsonl'} says why\n"


@pytest.mark.parametrize(("workers", "kill"), [(1, os.kill), (2, os.killpg)])
def test_after_kill_9_only_what_had_not_ended_is_done(
    books: Path, whole: Path, tmp_path: Path, workers: int, kill: Callable[[int, int], None]
) -> None:
    output = tmp_path / "out"
    ended = output / "work" / "runs" / "make" / "completions"
    call = command(books, output, "--tasks", TASKS, "--workers", workers)
    process = subprocess.Popen(call, start_new_session=True)
    while not (ended.exists() and any(ended.iterdir())):
        assert process.poll() is None
        time.sleep(0.005)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "report.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in ended.iterdir()}
    assert 1 <= len(before) < TASKS
    build(Build(sources=(books,), output=output, annotators=("drama",), tasks=TASKS))
    assert {name: (ended / name).stat().st_mtime_ns for name in before} == before
    assert result(output) == result(whole)


def test_a_ray_cluster_gives_the_same_rows(books: Path, whole: Path, tmp_path: Path) -> None:
    done = run(books, tmp_path / "out", "--tasks", 2, "--workers", 2, "--executor", "ray")
    assert done.returncode == 2, done.stderr
    assert result(tmp_path / "out") == result(whole)


SBATCH = """\
    #!/bin/bash
    # Runs the tasks of a job at once, where Slurm would put them in a queue.
    echo "$@" >> "{log}"
    script="${{@: -1}}"
    cp "$script" "{log}.$(wc -l < "{log}")"
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
    export RUN_OFFSET=0 SLURM_NODELIST=here
    # datatrove's jobs that add up its own figures are not what is tried here.
    grep -q merge_stats "$script" || for task in $(seq 0 "$last"); do
        SLURM_ARRAY_TASK_ID=$task bash "$script" >> "{log}.out" 2>&1 || exit 1
    done
    echo "Submitted batch job $(wc -l < "{log}")"
    """
SRUN = """\
    #!/bin/bash
    while [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done
    exec "$@"
    """


def pretend_slurm(folder: Path, log: Path) -> str:
    """Programs with the names of Slurm's that do on this machine what its would do on others."""
    folder.mkdir()
    for name, script in (
        ("sbatch", SBATCH.format(log=log)),
        ("srun", SRUN),
        ("scontrol", '#!/bin/bash\necho "$3"\n'),
    ):
        (folder / name).write_text(textwrap.dedent(script))
        (folder / name).chmod(stat.S_IRWXU)
    return str(folder)


def test_slurm_scripts_are_sound_and_their_tasks_give_the_same_rows(
    books: Path, whole: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    tools = pretend_slurm(tmp_path / "bin", log)
    slurm = ("--tasks", 2, "--workers", 2, "--executor", "slurm", "--partition", "cpu", "--time", "01:00:00")
    done = run(books, tmp_path / "out", *slurm, path=tools)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.out").read_text()
    assert "handed to Slurm" in done.stdout
    script = (tmp_path / "log.1").read_text()
    assert subprocess.run(["bash", "-n", tmp_path / "log.1"], check=True).returncode == 0
    for line in ("--partition=cpu", "--time=01:00:00", "--array=0-1%2", "--job-name=spellbound-read"):
        assert f"#SBATCH {line}\n" in script
    assert f'export PATH="{Path(sys.executable).parent}:$PATH"' in script
    # Each stage begins when the one before has ended well; between them datatrove adds up its own figures.
    assert "--dependency=afterok:1 " in log.read_text().splitlines()[2]
    again = run(books, tmp_path / "out", *slurm, path=tools)
    assert "8        8" in again.stdout
    assert result(tmp_path / "out") == result(whole)


def test_without_slurm_it_is_said(books: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run_here(capsys, books, tmp_path / "out", "--executor", "slurm", "--partition", "cpu")
    assert status == 1
    assert "sbatch is not installed here" in err


def test_settings_by_name(books: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run_here(capsys, books, tmp_path / "out", "--set", "seed=7")
    assert status == 2
    assert "--set seed: say whose setting it is" in err
    (tmp_path / "s.toml").write_text("seed = 7\n")
    _, _, err = run_here(capsys, books, tmp_path / "out", "--settings", tmp_path / "s.toml")
    assert "seed stands outside a table" in err


@pytest.mark.parametrize("in_file", [False, True])
def test_an_unknown_setting_is_named_with_its_place(
    books: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_file: bool
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[derive]\nspeed = 3\n", encoding="utf-8")
    options = ("--settings", settings) if in_file else ("--set", "derive.speed=3")
    status, _, err = run_here(capsys, books, tmp_path / "out", *options)
    place = f"{settings}: [derive]" if in_file else "--set derive.speed"
    assert (status, err.count("\n")) == (2, 1)
    assert f"{place}: instructor derive has no setting 'speed'; leave the setting out, or use one of" in err
