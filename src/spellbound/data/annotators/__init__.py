"""Annotators: from a document to a tagged story, by rule, from a play's own marks, or by a language model."""

from spellbound.data.annotators.registry import ANNOTATORS, annotator

__all__ = ["ANNOTATORS", "annotator"]
