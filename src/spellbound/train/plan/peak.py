"""What a step really needed: the highest memory of this process or of its GPU since it was last asked."""

from __future__ import annotations

from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET = "5"  # proc(5): forget the highest resident size


def forget(device: torch.device) -> None:
    """Begin to watch anew; where the kernel does not let us, the highest since the process began counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        try:
            _CLEAR.write_text(_RESET, encoding="ascii")
        except OSError:
            return


def highest(device: torch.device) -> float:
    """Bytes: what tensors took at most on a GPU, the highest resident size of the process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if not _STATUS.exists():
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    line = next(each for each in lines if each.startswith("VmHWM:"))
    return float(line.split()[1]) * 1024
