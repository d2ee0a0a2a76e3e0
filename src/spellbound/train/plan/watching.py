"""The plan beside what a run really needs: made before there is a model, compared after the first steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spellbound.train.dataset import Dataset
from spellbound.train.devices import one_piece
from spellbound.train.plan.foresee import config_of
from spellbound.train.plan.hardware import this_device
from spellbound.train.plan.loads import counted
from spellbound.train.plan.memory import Spread
from spellbound.train.plan.peak import forget, highest
from spellbound.train.plan.planning import against, formats_of, lines, make_plan, write_plan
from spellbound.train.plan.rehearsal import rehearsed
from spellbound.train.plan.shape import shape_of
from spellbound.train.recipe import Recipe
from spellbound.train.rows import Order

if TYPE_CHECKING:
    from accelerate import Accelerator

    from spellbound.train.loop import Running

STEPS = 3
"""After so many prediction and measurement are compared; the first, which is the largest and slowest, counts
for memory and not for speed."""
_GIB = 2**30


class Watched:
    """A run's plan, and what came of it."""

    def __init__(self, recipe: Recipe, order: Order, dataset: Dataset, accelerator: Accelerator) -> None:
        """Plan for the devices that there are; to be called before the model is made."""
        devices = accelerator.num_processes
        gpu = accelerator.device.type == "cuda"
        config = config_of(recipe.model, None)
        shape, formats = shape_of(config, recipe), formats_of(recipe, gpu=gpu)
        reading = counted(recipe, order, dataset, devices)
        step, _, turns = reading
        device, whole = this_device(shape, formats), one_piece(accelerator)
        if not gpu:
            device = replace(device, memory=device.memory / devices)
        if whole:  # what is spread over devices may be too large for one of them
            device = rehearsed(recipe, config, shape, formats, device, step, turns)
        spread = Spread(devices=devices, sharding="none" if whole else "fsdp")
        self.plan = make_plan(recipe, shape, device, spread, reading)
        self._folder, self._device = recipe.run.folder, accelerator.device
        self._base = 0.0 if gpu else device.fixed
        self._taken, self._before = 0, (0.0, 0)
        forget(self._device)

    def lines(self) -> list[str]:
        """The plan for people."""
        return lines(self.plan)

    def after_step(self, running: Running, *, last: bool) -> list[str]:
        """Return the comparison once enough steps have been taken, else nothing."""
        self._taken += 1
        if self._taken == 1:
            self._before = running.seconds, running.tokens
        if not (self._taken == STEPS or (last and self._taken < STEPS)):
            return []
        tokens = running.tokens - self._before[1]
        each = (running.seconds - self._before[0]) / tokens if tokens else 0.0
        self.note()
        told = against(self.plan, highest(self._device), self._base, each)
        return [f"plan and measurement after {self._taken} steps", *told]

    def note(self) -> None:
        """Leave the plan and the highest so far in the run's folder."""
        write_plan(self._folder, self.plan, memory_gib=highest(self._device) / _GIB)
