"""The peers: others that read the same weights. Each is imported where it is measured, never before."""

import importlib
from types import ModuleType

from spellbound.errors import EnvironmentFault


def peer_module(name: str) -> ModuleType:
    """Import a package of the ``bench`` extra, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentFault(
            f"{name} cannot be imported ({error}); `make bench` installs the peers"
        ) from error
