"""Measurements against named peers; not part of the package and not run by CI."""
