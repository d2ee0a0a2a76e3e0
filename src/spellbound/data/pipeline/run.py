"""Builds: plans, runs the stages, goes on where a killed build stopped."""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.data.pipeline.making import tools_of
from spellbound.data.pipeline.settings import Build, fingerprint, first_difference
from spellbound.data.pipeline.stages import Stage, stages
from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import replacing, unwritable

Progress = Callable[[str, int, int], None]
"""Takes the name of a stage, its tasks that have ended, and all of its tasks."""
_EVERY = 0.5
"""Seconds between two looks at what has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What became of a build."""

    report: dict[str, Any] | None
    """As in report.json; None if the build was handed to Slurm and has not ended."""
    job: str = ""
    """The last of the jobs handed to Slurm."""


def build(
    settings: Build,
    cluster: Any = None,
    *,
    restart: bool = False,
    on_progress: Progress = lambda name, done, tasks: None,
) -> Built:
    """Build examples: `examples.parquet`, `tagged.parquet`, `refused.jsonl` and `report.json` in the folder.

    A folder with a part of the same build is gone on with; one with a finished build gives its report.
    `cluster` is an `executors.Cluster`, by default this machine and one worker. Raises InputError if another
    build is in the folder, and EnvironmentFault if tasks failed for a reason of their own.
    """
    from spellbound.data.pipeline.executors import Cluster, ready, run_here, submit

    cluster = cluster or Cluster()
    plan = settings.plan()
    tools_of(plan)  # wrong settings are said now, not by some task of some machine
    with _alone(settings.output):
        if restart:
            _clear(settings)
        _adopt(settings, plan)
        work = settings.work.resolve()
        every = stages(settings.output.resolve(), work, plan)
        waiting = not settings.report.exists()
        if waiting and cluster.executor == "slurm":
            return Built(report=None, job=submit(every, work, cluster))
        if waiting:
            with ready(cluster):
                for stage in every:
                    with _watched(stage, work, on_progress):
                        run_here(stage, work, cluster)
                    require_ended(stage, work)
    return Built(report=json.loads(settings.report.read_text(encoding="utf-8")))


def _adopt(settings: Build, plan: dict[str, Any]) -> None:
    """Keep the plan in the folder, or see that the one which is there is the same."""
    kept = settings.work / "plan.json"
    if not kept.exists():
        if settings.report.exists():
            raise InputError(f"{settings.report}: is there already; give another folder, or --restart")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as draft:
            draft.write_text(json.dumps(plan, ensure_ascii=False), encoding="utf-8")
        return
    try:
        old = json.loads(kept.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{kept}: is damaged ({error}); build anew with --restart") from error
    if fingerprint(old) != fingerprint(plan):
        raise InputError(
            f"{settings.output}: has a build with other {first_difference(old, plan)}; give the same again,"
            " another folder, or --restart"
        )


def _clear(settings: Build) -> None:
    settings.report.unlink(missing_ok=True)
    shutil.rmtree(settings.work, ignore_errors=True)


def require_ended(stage: Stage, work: Path) -> None:
    """Refuse to go on before every task of a stage has ended: EnvironmentFault says where to look."""
    missing = stage.tasks - stage.done(work)
    if missing:
        raise EnvironmentFault(
            f"{missing} of {stage.tasks} tasks of stage {stage.name} failed, see {stage.logs(work) / 'logs'};"
            " then run the same command again"
        )


@contextlib.contextmanager
def _watched(stage: Stage, work: Path, on_progress: Progress) -> Iterator[None]:
    """Tell of tasks that have ended while the block runs."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            on_progress(stage.name, stage.done(work), stage.tasks)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    on_progress(stage.name, stage.done(work), stage.tasks)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """See that no other process builds in the folder; the lock goes with the process, however it ends."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        # Not flock: the processes of the tasks would inherit that lock, and keep it when this one is killed.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(handle)
        raise InputError(
            f"{folder}: another build is running in it; wait for it, or give another folder"
        ) from error
    try:
        yield
    finally:
        os.close(handle)
