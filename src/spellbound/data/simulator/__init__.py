"""Simulated stories for training: tagged by construction, with instructions whose fulfilment can be checked.

`simulate(seed)` gives a whole story, `examples(seed)` what it is cut into, `to_examples(seed)` the same as
rows of the one schema. Seeds from `HELD_OUT_FROM` on are for evaluation only.
"""

from spellbound.data.checks import KINDS, PLAIN_KINDS, Check
from spellbound.data.simulator.examples import HELD_OUT_FROM, Example, examples
from spellbound.data.simulator.invented import invented_name, with_invented_names
from spellbound.data.simulator.plot import Happening, Passage, Story, simulate
from spellbound.data.simulator.report import Report, measure
from spellbound.data.simulator.rows import generate, to_examples
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
    "generate",
    "invented_name",
    "measure",
    "simulate",
    "to_examples",
    "with_invented_names",
]
