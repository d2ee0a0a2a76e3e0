"""The annotator `rules`: who speaks, acts and sounds, by rule, in nine languages."""

from spellbound.data.annotators.rules.analysis import Analysis, analyse
from spellbound.data.annotators.rules.annotator import SURE, Rules
from spellbound.data.annotators.rules.lexicon import LANGUAGES, Lexicon, lexicon

__all__ = ["LANGUAGES", "SURE", "Analysis", "Lexicon", "Rules", "analyse", "lexicon"]
