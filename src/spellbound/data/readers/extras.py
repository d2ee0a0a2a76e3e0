"""Says which extra to install when a library that a reader or writer needs is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from spellbound.errors import EnvironmentFault


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Turn a failed import within into EnvironmentFault with the command that mends it."""
    try:
        yield
    except ImportError as error:
        raise EnvironmentFault(
            f"{error.name or error} is not installed; pip install 'spellbound[{extra}]'"
        ) from error
