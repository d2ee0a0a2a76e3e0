"""The `spellbound` command. Each command has its file here and imports what it needs when it runs."""

from spellbound.cli.app import app, main

__all__ = ["app", "main"]
