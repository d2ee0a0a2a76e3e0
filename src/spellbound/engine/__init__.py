"""Tokens in, tokens out: many requests on one model, sampler, constraint, and the tree of what was read.

Knows no text and no story; the only other room it enters is `spellbound.jamba`.
"""

from spellbound.engine.cache import Snapshot, StoryCache
from spellbound.engine.constraint import Constraint, GrammarConstraint, Vocabulary
from spellbound.engine.disk import Disk
from spellbound.engine.generate import Engine
from spellbound.engine.loading import load_model
from spellbound.engine.params import SamplingParams
from spellbound.engine.requests import FinishReason, Generation, Request, Scores, Stats, Ticket, Writer
from spellbound.engine.sampling import sample

__all__ = [
    "Constraint",
    "Disk",
    "Engine",
    "FinishReason",
    "Generation",
    "GrammarConstraint",
    "Request",
    "SamplingParams",
    "Scores",
    "Snapshot",
    "Stats",
    "StoryCache",
    "Ticket",
    "Vocabulary",
    "Writer",
    "load_model",
    "sample",
]
