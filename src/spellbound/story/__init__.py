"""What the rest of the program means by "write on": the Generator protocol and what fulfils it.

`LocalGenerator` is in `spellbound.story.local`, imported by whoever wants it: it alone needs torch. What
`OpenAIGenerator` sends through is loaded when one is made.
"""

from spellbound.story.asking import ServerRefused, ServerStopped
from spellbound.story.generator import Ending, FinishReason, Generator, Usage, WriteOptions, collect
from spellbound.story.models import find_model
from spellbound.story.openai import OpenAIGenerator
from spellbound.story.pacing import Pen
from spellbound.story.scripted import ScriptedGenerator
from spellbound.story.server import ServerSettings
from spellbound.story.upstream import Upstream

__all__ = [
    "Ending",
    "FinishReason",
    "Generator",
    "OpenAIGenerator",
    "Pen",
    "ScriptedGenerator",
    "ServerRefused",
    "ServerSettings",
    "ServerStopped",
    "Upstream",
    "Usage",
    "WriteOptions",
    "collect",
    "find_model",
]
