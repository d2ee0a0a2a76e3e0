"""How a run is laid out in steps: learning rate and the order of rows, both functions of the step alone."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps, learning rates and rows of one run."""

    steps: int
    batch: int
    """Rows in a step."""
    rate: float
    """Highest learning rate."""
    warmup: float = 0.04
    """Share of the steps in which the rate rises."""
    floor: float = 0.05
    """Last rate as a share of the highest."""
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to the floor. Steps count from 0."""
        rising = max(1, round(self.steps * self.warmup))
        if step < rising:
            return self.rate * (step + 1) / rising
        passed = (step - rising) / max(1, self.steps - rising)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed))))

    def rows_at(self, step: int, count: int) -> list[int]:
        """Indices of the step's rows among `count`: every row once an epoch, in a new order each epoch."""
        wanted = range(step * self.batch, (step + 1) * self.batch)
        orders = {epoch: self._order(epoch, count) for epoch in {place // count for place in wanted}}
        return [orders[place // count][place % count] for place in wanted]

    def _order(self, epoch: int, count: int) -> list[int]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order: list[int] = torch.randperm(count, generator=draw).tolist()
        return order
