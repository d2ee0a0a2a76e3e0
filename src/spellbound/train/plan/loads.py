"""What a run will read: counted from its token ids, or estimated from a length and a number of tokens."""

from __future__ import annotations

from math import ceil

import numpy as np

from spellbound.errors import InputError
from spellbound.train.batches import GRAIN, shares
from spellbound.train.dataset import Dataset
from spellbound.train.plan.saved import Step
from spellbound.train.plan.work import Load
from spellbound.train.recipe import Recipe
from spellbound.train.rows import Order


def counted(recipe: Recipe, order: Order, dataset: Dataset, devices: int) -> tuple[Step, Load, int]:
    """The largest rows that a device takes through the model at once, an epoch, and turns of a step.

    They are those of the first step: the order sees to it.
    """
    tokens, batch = dataset.train, recipe.schedule.batch
    rows = order.rows(0)
    sizes = np.array([int(tokens.lengths[rows[number]].sum()) for number in range(len(rows))])
    padded = sum(
        int(_up(sizes[start : start + batch].max())) * len(sizes[start : start + batch])
        for start in range(0, len(sizes), batch)
    )
    samples = tokens.samples[rows.members]
    lengths = samples["length"].astype(np.float64)
    _, first = order.at(0)
    given = shares(first, rank=0, processes=devices, at_once=recipe.compute.rows)
    load = Load(
        tokens=int(lengths.sum()),
        padded=padded,
        targets=int((lengths - samples["given"]).sum()),
        squares=float((lengths**2).sum()),
        steps=order.steps(0),
        passes=order.steps(0) * len(given),
    )
    steps = []
    for part, _ in given:
        learnt = tokens.samples[np.concatenate(part)]
        longest = max(int(tokens.lengths[row].sum()) for row in part)
        steps.append(
            Step(
                rows=len(part),
                time=_up(longest),
                targets=int((learnt["length"] - learnt["given"]).sum()),
                packed=recipe.data.batching == "packed",
            )
        )
    return max(steps, key=lambda step: (step.tokens, step.targets)), load, len(given)


def estimated(
    recipe: Recipe, *, length: int, tokens: int, share: float, devices: int
) -> tuple[Step, Load, int]:
    """The same if every row has `length` tokens, a `share` of them targets, and an epoch has `tokens`."""
    if length < 1 or tokens < 1 or not 0 < share <= 1:
        raise InputError(
            f"length {length}, tokens {tokens}, targets {share}: give a length and tokens from 1 on,"
            " and a share of targets above 0 and up to 1"
        )
    batch = recipe.schedule.batch
    own = ceil(batch / devices)
    at_once = min(own, recipe.compute.rows or own)
    rows = max(1, tokens // length)
    step = Step(
        rows=at_once,
        time=_up(length),
        targets=max(1, int(at_once * length * share)),
        packed=recipe.data.batching == "packed",
    )
    load = Load(
        tokens=rows * length,
        padded=rows * _up(length),
        targets=max(1, int(rows * length * share)),
        squares=float(rows) * length**2,
        steps=ceil(rows / batch),
        passes=ceil(rows / batch) * ceil(own / at_once),
    )
    return step, load, ceil(own / at_once)


def _up(length: int) -> int:
    return ceil(int(length) / GRAIN) * GRAIN
