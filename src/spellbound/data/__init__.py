"""Corpora and simulated stories turned into training examples."""
