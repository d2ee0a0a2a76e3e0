"""Instructions: from a tagged story to training examples that say what was asked for."""

from spellbound.data.instructions.registry import INSTRUCTORS, Instructor, instructor

__all__ = ["INSTRUCTORS", "Instructor", "instructor"]
