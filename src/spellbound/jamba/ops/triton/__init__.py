"""The kernels on a GPU, in Triton: nothing to build, one file a kernel. Importing this imports no Triton.

``scan.py`` selective scan, ``conv.py`` causal convolution, ``step.py`` both for one token, ``rows.py``
RMSNorm and SwiGLU; they share ``numerics.py``. Their plain twins are in
:mod:`spellbound.jamba.ops.reference`; Triton's interpreter runs them where no GPU is
(``TRITON_INTERPRET=1``, set before the first import of triton).
"""

import functools
import importlib
import importlib.util
import os
import typing

import torch

__all__ = ["available", "explain"]  # and the kernels, which are imported when they are asked for

_HOMES = {
    "selective_scan_triton": "scan",
    "causal_conv_triton": "conv",
    "conv_step": "step",
    "scan_step": "step",
    "rms_norm_triton": "rows",
    "swiglu_triton": "rows",
}
_OLDEST = (8, 0)  # compute capability: older cards have no bfloat16


def __getattr__(name: str) -> typing.Any:
    """Import a kernel, and Triton with it, when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def available() -> bool:
    """Whether the kernels can run here; :func:`explain` says why or why not."""
    return _look()[0]


def explain() -> str:
    """Say where the kernels run here, or what they lack, in words for people."""
    return _look()[1]


@functools.cache
def _look() -> tuple[bool, str]:
    if importlib.util.find_spec("triton") is None:
        return False, "triton is not installed; it comes with torch's CUDA builds, or: pip install triton"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True, "in Triton's interpreter, on the CPU: for tests"
    if not torch.cuda.is_available():
        return False, "torch sees no GPU"
    if torch.version.hip is None and torch.cuda.get_device_capability() < _OLDEST:
        return (
            False,
            f"{torch.cuda.get_device_name()} is older than compute capability {_OLDEST[0]}.{_OLDEST[1]}",
        )
    return True, f"on {torch.cuda.get_device_name()}"
