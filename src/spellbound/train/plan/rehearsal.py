"""How fast a device really is at steps like those to come: a few of them are taken, and thrown away.

What single products, scans and copies take says little about a small model, whose time goes into everything
around them.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor
from transformers import JambaConfig

from spellbound.errors import ModelError
from spellbound.train import adapters
from spellbound.train.batches import GRAIN, NO_TARGET
from spellbound.train.devices import uses_bf16
from spellbound.train.loss import Learner
from spellbound.train.plan.hardware import Device
from spellbound.train.plan.memory import Spread, peak
from spellbound.train.plan.saved import Formats, Step
from spellbound.train.plan.shape import Part, Shape
from spellbound.train.plan.work import Load, seconds_of
from spellbound.train.recipe import Recipe
from spellbound.train.start import fresh_model, number_format, parameter_groups

_TOKENS = {False: 4096, True: 32768}
"""Read at once in a rehearsal at most, by whether it is a GPU."""
_WEIGHTS = {False: 1 << 26, True: 1 << 30}
"""Numbers that a model for a rehearsal has at most; of a larger one only the first layers are taken."""
_FEWER = 8  # tokens of a second try, which tells what a pass costs whatever it reads
_TIMES = 2  # after a first that is not counted


def rehearsed(
    recipe: Recipe,
    config: JambaConfig,
    shape: Shape,
    formats: Formats,
    device: Device,
    step: Step,
    turns: int,
) -> Device:
    """The device at the pace at which steps of `turns` times such rows really go.

    As it was if a few layers are too large to be tried, or are not enough for the recipe's adapters: a
    rehearsal keeps nobody from a run.
    """
    layers = layers_for(shape, _WEIGHTS[device.gpu])
    part = rows_for(step, _TOKENS[device.gpu])
    small = replace(shape, layers=shape.layers[:layers])
    if not layers or not device.products or not _fits(recipe, small, formats, device, part):
        return device
    few = rows_for(replace(part, rows=1), max(GRAIN, part.tokens // _FEWER))
    try:
        (reading, briefly), update = _tried(recipe, config, device, layers, (part, few))
    except (ModelError, MemoryError, torch.OutOfMemoryError):  # an adapter of later layers; too little room
        return device
    finally:
        gc.collect()
        if device.gpu:
            torch.cuda.empty_cache()
    each = _each((part.tokens, reading), (few.tokens, briefly))
    times = step.tokens / part.tokens * turns
    load = Load(
        tokens=step.tokens * turns,
        padded=step.tokens * turns,
        targets=step.targets * turns,
        squares=times * part.rows * part.time**2,
        steps=1,
        passes=0,
    )
    foreseen = seconds_of(
        small,
        part,
        load,
        formats,
        device,
        devices=1,
        checkpointing=recipe.compute.gradient_checkpointing,
        at_once=part.targets,
    )
    pace = sum(foreseen.values()) / (times * (reading - each) + update)
    return replace(
        device,
        products=device.products * pace,
        scan=device.scan / pace,
        traffic=device.traffic * pace,
        each=each * len(shape.layers) / layers,
        basis="rehearsed here",
    )


def _each(*tried: tuple[int, float]) -> float:
    """Seconds of no tokens at all, by those of many and of few; what cannot be told is nothing."""
    (many, long), (few, short) = tried
    if few >= many or short >= long:
        return 0.0
    return max(0.0, short - few * (long - short) / (many - few))


def layers_for(shape: Shape, most: int) -> int:
    """Layers from the first on that have no more numbers than `most`; 0 if a kind of layer would lack."""
    left, count = most - shape.outside.weights, 0
    while count < len(shape.layers) and left >= shape.layers[count].weights:
        left -= shape.layers[count].weights
        count += 1
    return count if _kinds(shape.layers[:count]) == _kinds(shape.layers) else 0


def _fits(recipe: Recipe, shape: Shape, formats: Formats, device: Device, step: Step) -> bool:
    foreseen = peak(
        shape,
        step,
        formats,
        Spread(),
        at_once=step.targets,
        checkpointing=recipe.compute.gradient_checkpointing,
        turns=1,
        fixed=device.fixed,
        heap=device.heap,
    )
    return foreseen.total <= device.memory


def _kinds(layers: Sequence[Part]) -> tuple[set[bool], set[bool]]:
    """Which mixers and which feed-forwards there are."""
    return {part.attention for part in layers}, {part.experts > 1 for part in layers}


def rows_for(step: Step, most: int) -> Step:
    """Rows like those of a step, but few enough."""
    time = min(step.time, most // GRAIN * GRAIN)
    rows = max(1, min(step.rows, most // time))
    learnt = step.targets / max(1, step.tokens)
    return replace(step, rows=rows, time=time, targets=max(1, round(learnt * rows * time)))


def _tried(
    recipe: Recipe, config: JambaConfig, device: Device, layers: int, steps: Sequence[Step]
) -> tuple[list[float], float]:
    """Seconds of such rows forwards and backwards, for each step, and of an update of all that learns."""
    where = torch.device("cuda" if device.gpu else "cpu")
    small = JambaConfig.from_dict({**config.to_dict(), "num_hidden_layers": layers})
    here = [torch.cuda.current_device()] if device.gpu else []
    with torch.random.fork_rng(devices=here):  # a run draws the same numbers with and without
        model = fresh_model(small, 0, number_format(recipe, where), where)
        if recipe.method == "lora":
            adapters.attach(model, recipe.adapter, 0)
        if recipe.compute.gradient_checkpointing:
            model.activation_checkpointing_enable()
        learner = Learner(model, head_tokens=recipe.compute.head_tokens).train()
        optimizer = torch.optim.AdamW(parameter_groups(learner, recipe.optimizer.decay), fused=True)
        bf16 = uses_bf16(recipe.compute, where.type)
        readings: list[float] = []
        updates: list[float] = []
        for step in steps:
            inputs, reading = _inputs(step, config.vocab_size, where), []
            for _ in range(1 + _TIMES):
                begin = _now(where)
                with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
                    nats, _ = learner(*inputs)
                nats.backward()
                between = _now(where)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                reading.append(between - begin)
                updates.append(_now(where) - between)
            readings.append(min(reading[1:]))
    return readings, min(updates[1:])


def _inputs(
    step: Step, vocabulary: int, where: torch.device
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """Random tokens, a sample a row, of which the last are learnt."""
    size = (step.rows, step.time)
    ids_BT = torch.randint(vocabulary, size)
    targets_BT = torch.randint(vocabulary, size)
    targets_BT[:, : step.time - max(1, step.targets // step.rows)] = NO_TARGET
    documents_BT = torch.zeros(size, dtype=torch.long, device=where) if step.packed else None
    lengths_B = torch.full((step.rows,), step.time)
    return (
        ids_BT.to(where),
        documents_BT,
        targets_BT.to(where),
        torch.ones(size, device=where),
        lengths_B.to(where),
    )


def _now(where: torch.device) -> float:
    if where.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter()
