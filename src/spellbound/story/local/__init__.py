"""A model in this process; who imports this imports torch."""

from spellbound.story.local.generator import LocalGenerator

__all__ = ["LocalGenerator"]
