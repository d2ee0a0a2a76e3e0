"""Checks: was a writing instruction followed? Decided by rule from the events of a completion.

A check of a kind in `PLAIN_KINDS` also works on prose without tags, where speech stands in quotation marks.
"""

from spellbound.data.checks.check import DESCRIPTIONS, KINDS, Check
from spellbound.data.checks.rules import PLAIN_KINDS
from spellbound.data.checks.segments import Segment, segments

__all__ = ["DESCRIPTIONS", "KINDS", "PLAIN_KINDS", "Check", "Segment", "segments"]
