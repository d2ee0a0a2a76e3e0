"""Builds of examples at scale, through datatrove: read, tag, instruct, check, drop what repeats."""

from spellbound.data.pipeline.run import Built, Progress, build
from spellbound.data.pipeline.settings import EXECUTORS, Build, ExecutorName

__all__ = ["EXECUTORS", "Build", "Built", "ExecutorName", "Progress", "build"]
