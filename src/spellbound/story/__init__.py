"""What the rest of the program means by "write on": the Generator protocol and what fulfils it.

`LocalGenerator` is in `spellbound.story.local`, imported by whoever wants it: it alone needs torch. What
`OpenAIGenerator` sends through is loaded when one is made.
"""

from spellbound.story.generator import Ending, FinishReason, Generator, Usage, WriteOptions, collect
from spellbound.story.models import find_model
from spellbound.story.openai import OpenAIGenerator, ServerStopped
from spellbound.story.pacing import Pen
from spellbound.story.scripted import ScriptedGenerator
from spellbound.story.server import ServerSettings

__all__ = [
    "Ending",
    "FinishReason",
    "Generator",
    "OpenAIGenerator",
    "Pen",
    "ScriptedGenerator",
    "ServerSettings",
    "ServerStopped",
    "Usage",
    "WriteOptions",
    "collect",
    "find_model",
]
