"""Operations the model is made of, each behind one call: a plain twin, C++ for CPUs, Triton for GPUs."""

from spellbound.jamba.ops.dispatch import (
    KernelReport,
    causal_conv,
    causal_conv_onwards,
    describe,
    kind_for,
    rms_norm,
    selective_scan,
    swiglu,
)

__all__ = [
    "KernelReport",
    "causal_conv",
    "causal_conv_onwards",
    "describe",
    "kind_for",
    "rms_norm",
    "selective_scan",
    "swiglu",
]
