"""Simulated stories for training: tagged by construction, with instructions whose fulfilment can be checked.

`simulate(seed)` gives a whole story, `examples(seed)` its training examples. Seeds from `HELD_OUT_FROM` on
are for evaluation only.
"""

from spellbound.data.simulator.checks import KINDS, PLAIN_KINDS, Check
from spellbound.data.simulator.examples import HELD_OUT_FROM, Example, examples
from spellbound.data.simulator.plot import Happening, Passage, Story, simulate
from spellbound.data.simulator.report import Report, measure
from spellbound.data.simulator.world import Place

__all__ = [
    "HELD_OUT_FROM",
    "KINDS",
    "PLAIN_KINDS",
    "Check",
    "Example",
    "Happening",
    "Passage",
    "Place",
    "Report",
    "Story",
    "examples",
    "measure",
    "simulate",
]
