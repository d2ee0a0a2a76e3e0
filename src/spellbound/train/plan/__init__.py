"""How much memory and time a run will take, foreseen from its recipe, a config and lengths; no weights."""

from spellbound.train.plan.foresee import Question, foresee
from spellbound.train.plan.planning import Plan, lines

__all__ = ["Plan", "Question", "foresee", "lines"]
