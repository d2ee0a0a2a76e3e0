"""Runs a stage through datatrove: on this machine, on a Ray cluster, or as a job of Slurm."""

import contextlib
import io
import logging
import multiprocessing
import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from spellbound.data.pipeline.settings import EXECUTORS, ExecutorName
from spellbound.data.pipeline.stages import Stage
from spellbound.data.readers.extras import needed
from spellbound.errors import EnvironmentFault, InputError

with needed("scale"):
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.executor.ray import RayPipelineExecutor
    from datatrove.executor.slurm import SlurmPipelineExecutor
    from datatrove.utils.logging import logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where a build runs; it may be another place when a build is resumed, the result is the same."""

    executor: ExecutorName = "local"
    workers: int = 1
    """Tasks at a time."""
    ray_address: str = ""
    """Of a running Ray cluster; empty: one of this machine's processes, for this build alone."""
    partition: str = ""
    """Slurm's."""
    time: str = "24:00:00"
    """Most that a Slurm job may take, as Slurm writes it."""
    memory: int = 4
    """GB a task, asked of Slurm."""

    def __post_init__(self) -> None:
        """Refuse what no cluster can do."""
        if self.executor not in EXECUTORS:
            raise InputError(f"executor {self.executor!r} is unknown; use one of {', '.join(EXECUTORS)}")
        if self.workers < 1:
            raise InputError(f"workers {self.workers}: give 1 or more")
        if self.executor == "slurm" and not self.partition:
            raise InputError("the slurm executor needs a partition; give --partition (sinfo lists them)")
        if self.memory < 1:
            raise InputError(f"memory {self.memory}: give whole GB, 1 or more")


class _Quietly:
    """Keeps the log of a task out of the terminal of whoever runs it; it is in the stage's folder."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        with contextlib.redirect_stderr(io.StringIO()):
            return super()._run_for_rank(rank, local_rank, node_rank)  # type: ignore[misc]


class Local(_Quietly, LocalPipelineExecutor):  # type: ignore[misc]
    """Processes of this machine, one a task. All end when this one does; datatrove's manager would not."""

    def run(self) -> None:
        """Run every task that has not ended; raise the first error of ours at the end."""
        ranks = deque(self.get_incomplete_ranks())
        if self.workers == 1:
            for rank in ranks:
                self._run_for_rank(rank)
        elif ranks:
            self._run_at_once(ranks)

    def _run_at_once(self, ranks: deque[int]) -> None:
        """Not a pool: it would wait for ever for a process that the system killed for its memory."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        receiver, sender = context.Pipe(duplex=False)
        running: list[Any] = []
        errors: list[Exception] = []
        try:
            while running or (ranks and not errors):
                while ranks and not errors and len(running) < self.workers:
                    process = context.Process(target=self._task, args=(ranks.popleft(), sender), daemon=True)
                    process.start()
                    running.append(process)
                wait([each.sentinel for each in running])
                running = [each for each in running if each.is_alive()]
                while receiver.poll():
                    errors.append(receiver.recv())
        finally:
            for each in running:
                each.terminate()
        if errors:
            raise errors[0]

    def _task(self, rank: int, sender: Any) -> None:
        """One task, in a process of its own; errors of ours go back, others are in the task's log."""
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            self._run_for_rank(rank)
        except (InputError, EnvironmentFault) as error:
            sender.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Ray(_Quietly, RayPipelineExecutor):  # type: ignore[misc]
    """Actors of a Ray cluster."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep datatrove's log in this process out of the terminal."""
    logger.remove()
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def run_here(stage: Stage, work: Path, cluster: Cluster) -> None:
    """Run what has not ended of a stage, and return when it has."""
    logs = str(stage.logs(work))
    workers = min(cluster.workers, stage.tasks)
    with _quiet():
        # A single task is done here: to send it away takes longer.
        if cluster.executor == "ray" and stage.tasks > 1:
            # Memory is not what these tasks are short of: ask for none that a small node could not give.
            Ray([stage.step], tasks=stage.tasks, workers=workers, logging_dir=logs, mem_per_cpu_gb=0.1).run()
        else:
            Local([stage.step], tasks=stage.tasks, workers=workers, logging_dir=logs).run()


@contextlib.contextmanager
def ready(cluster: Cluster) -> Iterator[None]:
    """Connect to the cluster, if there has to be one."""
    if cluster.executor != "ray":
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with needed("scale"):
        import ray
    own: dict[str, Any] = {"num_cpus": cluster.workers, "include_dashboard": False}
    try:
        ray.init(
            address=cluster.ray_address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if cluster.ray_address else own),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EnvironmentFault(
            f"no Ray cluster at {cluster.ray_address or 'this machine'} ({str(error)[:120]});"
            " start one: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def submit(stages: tuple[Stage, ...], work: Path, cluster: Cluster) -> str:
    """Hand all stages to Slurm, each to begin when the one before has ended well; return the last job's id.

    Raises EnvironmentFault where there is no Slurm.
    """
    if shutil.which("sbatch") is None:
        raise EnvironmentFault("sbatch is not installed here; run this on a login node of the cluster")
    before: Any = None
    with _quiet():
        for stage in stages:
            before = _job(stage, work, cluster, before)
            before.run()
    return str(before.job_id)


def _job(stage: Stage, work: Path, cluster: Cluster, before: Any) -> Any:
    """The job of a stage, which begins when the one before has ended well."""
    return SlurmPipelineExecutor(
        [stage.step],
        tasks=stage.tasks,
        workers=min(cluster.workers, stage.tasks),
        time=cluster.time,
        partition=cluster.partition,
        mem_per_cpu_gb=cluster.memory,
        job_name=f"spellbound-{stage.name}",
        qos="",
        # The scripts of datatrove are beside the interpreter that has it.
        env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',
        logging_dir=str(stage.logs(work)),
        slurm_logs_folder=str(stage.logs(work) / "slurm"),
        depends=before,
    )
