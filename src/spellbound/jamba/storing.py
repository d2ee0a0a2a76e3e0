"""A full disk as safetensors says it, turned into what :mod:`spellbound.files` puts in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError


@contextmanager
def storing() -> Iterator[None]:
    """Within it a file of tensors that cannot be written raises OSError, as any other file does."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(None, str(error)) from error
