"""Several processes that train one model on this machine's CPU.

On a CPU, processes of one thread each beat one process of many threads: small operations do not split well.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from torch import distributed
from torch.multiprocessing.spawn import ProcessException, start_processes

from spellbound.errors import EnvironmentFault, InputError, SpellboundError

PRELOADED = ["spellbound.train.run", "accelerate", "torch.utils.tensorboard"]
"""What is imported once for all processes."""
_ENDING = (signal.SIGINT, signal.SIGTERM)
_FAILURE = "failure.json"
_KINDS: dict[str, type[SpellboundError]] = {
    kind.__name__: kind for kind in (InputError, EnvironmentFault, SpellboundError)
}


def several(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run `work(*arguments)` in `count` new processes that know of one another.

    However it ends (an error, a signal, a process that was killed), none of them is left running. An error of
    ours is raised here as the same. SIGINT and SIGTERM are passed on, so that they can end in good order.
    """
    # Forked from a process that has imported everything and computed nothing: safe, and soon ready.
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="spellbound.") as folder:
        given = (work, count, folder, arguments)
        started = start_processes(_process, given, nprocs=count, start_method="forkserver", join=False)
        before = {number: signal.getsignal(number) for number in _ENDING}

        def pass_on(number: int, frame: FrameType | None) -> None:
            for process in started.processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

        try:
            for number in _ENDING:
                signal.signal(number, pass_on)
            while not started.join():
                pass
        except ProcessException as failure:
            _raise(Path(folder) / _FAILURE, failure)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for process in started.processes:
                process.kill()
                process.join()


def _raise(file: Path, failure: ProcessException) -> None:
    """Raise what a process said before it ended, or that it was killed."""
    if file.is_file():
        told = json.loads(file.read_text(encoding="utf-8"))
        raise _KINDS[told["kind"]](told["message"]) from None
    code = getattr(failure, "exit_code", 0)
    if code > 128:  # it was asked to end, and did so in good order
        raise SystemExit(code) from None
    line = str(failure).strip().splitlines()[-1]
    raise EnvironmentFault(f"training: {line}; go on from the last checkpoint with --resume") from failure


def _process(
    rank: int, work: Callable[..., None], count: int, folder: str, arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    os.environ.update(zip(names, map(str, (rank, rank, count, count)), strict=True))
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    try:
        work(*arguments)
    except SpellboundError as error:
        kind = next(name for name, kind in _KINDS.items() if isinstance(error, kind))
        said = Path(folder) / f"{_FAILURE}.{rank}"
        said.write_text(json.dumps({"kind": kind, "message": str(error)}), encoding="utf-8")
        said.replace(Path(folder) / _FAILURE)
        sys.exit(1)
    finally:
        distributed.destroy_process_group()


def _die_with_parent() -> None:
    """End this process when the one that asked for it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
