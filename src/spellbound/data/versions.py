"""Versions for provenance: of the program, and of the word lists and templates that decide a result."""

import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files


@cache
def program_version() -> str:
    """Version of the installed program."""
    return version("spellbound")


@cache
def digest_of(package: str, *names: str) -> str:
    """Ten characters that change whenever one of these files of a package does."""
    whole = hashlib.sha256()
    for name in sorted(names):
        # Line ends may differ between installations.
        whole.update((files(package) / name).read_text(encoding="utf-8").encode("utf-8"))
    return whole.hexdigest()[:10]
