"""Operations the model is made of: the selective scan, in three implementations behind one call."""

from spellbound.jamba.ops.dispatch import KernelReport, describe, selective_scan

__all__ = ["KernelReport", "describe", "selective_scan"]
