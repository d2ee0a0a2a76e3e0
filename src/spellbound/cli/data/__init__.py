"""`spellbound data`: from books, plays, chats and ratings to training examples."""

from spellbound.cli.data.commands import app

__all__ = ["app"]
