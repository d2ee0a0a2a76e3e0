"""What the rest of the program means by "write on": the Generator protocol and what fulfils it.

`LocalGenerator` is in `spellbound.story.local`, imported by whoever wants it: it alone needs torch.
"""

from spellbound.story.generator import Ending, FinishReason, Generator, Usage, WriteOptions, collect
from spellbound.story.models import find_model
from spellbound.story.pacing import Pen
from spellbound.story.scripted import ScriptedGenerator

__all__ = [
    "Ending",
    "FinishReason",
    "Generator",
    "Pen",
    "ScriptedGenerator",
    "Usage",
    "WriteOptions",
    "collect",
    "find_model",
]
