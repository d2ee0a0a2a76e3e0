"""Tokens in, tokens out: the decode loop, its sampler, its constraint and the states worth keeping.

Knows no text and no story; the only other room it enters is `spellbound.jamba`.
"""

from spellbound.engine.cache import PrefixCache
from spellbound.engine.constraint import Constraint, GrammarConstraint, Vocabulary
from spellbound.engine.generate import Engine, FinishReason, Generation, Request, Stats
from spellbound.engine.loading import load_model
from spellbound.engine.params import SamplingParams
from spellbound.engine.sampling import sample

__all__ = [
    "Constraint",
    "Engine",
    "FinishReason",
    "Generation",
    "GrammarConstraint",
    "PrefixCache",
    "Request",
    "SamplingParams",
    "Stats",
    "Vocabulary",
    "load_model",
    "sample",
]
