"""Every exception Spellbound raises on purpose.

    SpellboundError             anything a caller may want to catch as ours
    ├── InputError              what was given is wrong: exit status 2 in the terminal, 4xx in HTTP
    │   ├── DirectiveError      a prompt or a sheet that cannot be written or read
    │   ├── ModelError          a model folder, device, dtype or token that cannot be used
    │   └── StateError          a saved state that belongs to another model, batch or format
    ├── EngineBusy              too many requests wait already: 503 in HTTP, with Retry-After
    └── EnvironmentFault        this machine lacks something: exit status 1, with the command that mends it

A message is one line that names the value, the place and the remedy.
"""


class SpellboundError(Exception):
    """Base of every exception raised on purpose."""


class InputError(SpellboundError, ValueError):
    """What the caller gave cannot be used; the message names it and says what to give instead."""


class DirectiveError(InputError):
    """A story prompt, character sheet or tagged text that cannot be written or read."""


class ModelError(InputError):
    """A model folder, device, dtype, token id or argument that the model cannot use."""


class StateError(InputError):
    """A generation state that belongs to another model, another batch size or another format."""


class EngineBusy(SpellboundError):
    """More requests wait than the engine takes; the same one may be taken later."""


class EnvironmentFault(SpellboundError):
    """Something this machine lacks; the message ends with the command that mends it."""
