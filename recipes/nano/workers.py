"""Several processes that train one model: each takes a share of every batch, gradients are summed over all.

On a CPU, processes of one thread each beat one process of many threads: small operations do not split well.
"""

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessException, start_processes

from spellbound.errors import SpellboundError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's malloc parameters (malloc.h)."""


def run(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Runs `work(*arguments)` in `count` processes that know of one another; in this one if it is one.

    However it ends (an error, Ctrl-C, a process that was killed), none of them is left running.
    """
    if count == 1:
        work(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        given = (work, count, str(meeting), arguments)
        started = start_processes(_process, given, nprocs=count, start_method="fork", join=False)
        try:
            while not started.join():
                pass
        except ProcessException as failure:
            raise SpellboundError(str(failure).strip().splitlines()[-1]) from failure
        finally:
            for process in started.processes:
                process.terminate()
                process.join()


def _process(
    rank: int, work: Callable[..., None], count: int, meeting: str, arguments: tuple[Any, ...]
) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        work(*arguments)
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def summed(value: float) -> float:
    """The value, added up over all processes."""
    if count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.item()


def sum_gradients(model: nn.Module) -> None:
    """Adds up every gradient over all processes, in one message; an unused weight counts as zero."""
    if count() == 1:
        return
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
        weight.grad = part.view_as(weight)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: fetching it from the kernel anew costs a third of every step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_TOP_PAD, 64 << 20)
