"""Recipes: programs that build what the package ships with. Not part of the package."""
