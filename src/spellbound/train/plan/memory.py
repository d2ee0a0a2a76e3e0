"""The most memory that one device needs, and what it consists of at that moment.

A step is followed backwards, layer by layer: what has not been used yet is still there, gradients of what
has been are there already. Bytes throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spellbound.train.plan.saved import Formats, Operation, Step, operations
from spellbound.train.plan.shape import Part, Shape

Sharding = Literal["none", "fsdp"]
_WIDE = 4


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a run lies on its devices."""

    devices: int = 1
    sharding: Sharding = "none"
    """none: the whole model on each device; fsdp: a share of it (FSDP2, DeepSpeed ZeRO-3)."""

    @property
    def shards(self) -> int:
        """Into how many parts weights, gradients and moments are cut."""
        return self.devices if self.sharding == "fsdp" else 1


@dataclass(frozen=True, kw_only=True)
class Heap:
    """What a process takes beside what it uses; on a GPU torch's own allocator sees to it."""

    holes: float
    """Share of what comes and goes in a step that lies between what is used."""
    first_use: float
    """Bytes that libraries take when they first compute."""
    note: str = ""
    """What people should know of it."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Terms of the peak, in the order in which people read them."""

    terms: Mapping[str, float]
    moment: str
    """When that is."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.terms.values())


def peak(
    shape: Shape,
    step: Step,
    formats: Formats,
    spread: Spread,
    *,
    at_once: int,
    checkpointing: bool,
    turns: int = 1,
    fixed: float = 0.0,
    heap: Heap | None = None,
    files: float = 0.0,
) -> Memory:
    """Find the moment of a step, or before the first, that needs most.

    `at_once` targets are read by the head at a time, `turns` times rows go through the model in a step, and
    `fixed` bytes are there before any of it. `files` are mapped as long as weights are copied out of them.
    """
    held = _held(shape, formats, spread)
    layers, around = operations(shape, step, formats, at_once)
    residual = step.tokens * shape.hidden * formats.weights
    moments: list[tuple[str, dict[str, float]]] = []
    for number in range(len(layers), -1, -1):
        own = around if number == len(layers) else layers[number]
        after = [*shape.layers[number + 1 :], *([shape.outside] if number < len(layers) else [])]
        own_part = shape.outside if number == len(layers) else shape.layers[number]
        learnt = shape.parts if turns > 1 else (*after, own_part)
        terms = {**held, "gradients": _gradients(learnt, formats, spread)}
        terms.update(_gathered(shape, own_part, formats, spread))
        _keep(terms, layers[:number], residual, checkpointing=checkpointing)
        _busy(terms, own, around[0], again=checkpointing and number < len(layers))
        terms["other"] = fixed
        moments.append((_called(own_part, number, len(layers)), terms))
    updating = {**held, "gradients": _gradients(shape.parts, formats, spread), "other": fixed}
    moments.append(("optimizer step", updating))
    if heap is not None:
        again = max(_worst(layer)[0] + _worst(layer)[1] for layer in layers) + _worst(around)[1]
        for _, terms in moments:
            terms["holes in the heap"] = heap.holes * again
            terms["first use of libraries"] = heap.first_use
    if files:
        loading = {"weights": held["weights"], "files of weights": files, "other": fixed}
        moments.append(("loading", loading))
    moment, terms = max(moments, key=lambda each: sum(each[1].values()))
    return Memory(terms={name: size for name, size in terms.items() if size}, moment=moment)


def _held(shape: Shape, formats: Formats, spread: Spread) -> dict[str, float]:
    """What is there in every moment."""
    adapters = sum(part.adapter for part in shape.parts)
    weights = sum(part.weights for part in shape.parts)
    trained = sum(part.weights for part in shape.parts if part.trained)
    return {
        "weights": weights * formats.weights / spread.shards,
        "adapters": adapters * _WIDE / spread.shards,
        "AdamW's moments": 2 * (adapters * _WIDE + trained * formats.weights) / spread.shards,
    }


def _gradients(parts: tuple[Part, ...], formats: Formats, spread: Spread) -> float:
    size = sum(_gradient(part, formats) for part in parts) / spread.shards
    # DDP exchanges gradients in buckets, which are as large as all of them.
    return size * (2 if spread.devices > 1 and spread.sharding == "none" else 1)


def _gradient(part: Part, formats: Formats) -> float:
    return part.adapter * _WIDE + part.trained * part.weights * formats.weights


def _gathered(shape: Shape, part: Part, formats: Formats, spread: Spread) -> dict[str, float]:
    """Whole weights of the layer at work, of the next one fetched meanwhile, and of what is in none; and the
    layer's gradient before it is shared out."""
    if spread.shards == 1:
        return {}
    largest = max(layer.weights + layer.adapter for layer in shape.layers)
    outside = shape.outside.weights + shape.outside.adapter
    gathered = (2 * largest + outside) * formats.products
    return {"gathered weights": gathered, "gradient to share": _gradient(part, formats)}


def _keep(
    terms: dict[str, float], layers: list[list[Operation]], residual: float, *, checkpointing: bool
) -> None:
    """Add what earlier layers keep for their backward passes."""
    if checkpointing:
        terms["layer inputs"] = len(layers) * residual
        return
    for layer in layers:
        for operation in layer:
            name = f"kept: {operation.kind}"
            terms[name] = terms.get(name, 0.0) + operation.saved


def _busy(terms: dict[str, float], own: list[Operation], embedding: Operation, *, again: bool) -> None:
    """Add what the layer at work has kept up to its worst operation, and what that one needs besides."""
    worst = _worst(own)
    if own[0] is embedding:
        terms["head"] = worst[0]
    elif again:
        terms["one layer, computed anew"] = worst[0]
    else:
        name = f"kept: {own[0].kind}"
        terms[name] = terms.get(name, 0.0) + worst[0]
    if own[0] is not embedding:
        terms["head"] = embedding.saved
    terms["gradients flowing"] = worst[1]


def _worst(own: list[Operation]) -> tuple[float, float]:
    """What is kept and what flows at a layer's worst operation."""
    saved, worst = 0.0, (0.0, 0.0)
    for operation in own:
        saved += operation.saved
        worst = max(worst, (saved, operation.working), key=sum)
    return worst


def _called(part: Part, number: int, layers: int) -> str:
    if number == layers:
        return "head"
    kind = "attention" if part.attention else "Mamba"
    return f"backward of layer {number} ({kind}, {'experts' if part.experts > 1 else 'dense'})"
