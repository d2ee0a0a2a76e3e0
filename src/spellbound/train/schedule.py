"""The learning rate of every step, a function of the step alone."""

import math

from spellbound.train.recipe import ScheduleSettings


def rate_at(settings: ScheduleSettings, step: int, steps: int) -> float:
    """Rate of the update that follows `step` updates, of `steps` in all: a linear warm-up, then the shape."""
    rising = round(steps * settings.warmup)
    if step < rising:
        return settings.rate * (step + 1) / rising
    if settings.shape == "constant":
        return settings.rate
    passed = min(1.0, (step - rising) / max(1, steps - rising))
    left = 1 - passed if settings.shape == "linear" else 0.5 * (1 + math.cos(math.pi * passed))
    return settings.rate * (settings.floor + (1 - settings.floor) * left)
