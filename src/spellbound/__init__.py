"""Spellbound: long, steerable stories from a language model that says who is speaking."""
