"""How much there is to compute: operations of each kind, and how long they take on a device.

X tokens that are no padding, H hidden, F inner, D channels, N states, R rank of the step size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spellbound.train.plan.hardware import Device
from spellbound.train.plan.saved import Formats, Step, operations
from spellbound.train.plan.shape import Part, Shape

_PASSES = 5.0  # a kept number: written, read, read backwards; its gradient: written, read
_UPDATE = 7.0  # numbers read or written for each that AdamW changes


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an epoch has, over all devices."""

    tokens: int
    """Padding not counted."""
    padded: int
    """Padding counted."""
    targets: int
    squares: float
    """Sum over samples of their length squared, which attention's scores go by."""
    steps: int
    passes: int
    """Times that a device takes rows through the model."""


def products(shape: Shape, part: Part) -> dict[str, list[tuple[str, int, int, float]]]:
    """A layer's matrix products by kind: name, inputs, outputs, and times that a token meets it."""
    H, F, D = shape.hidden, shape.inner, shape.channels
    narrow, K = shape.step_rank + 2 * shape.states, shape.experts_a_token
    if part.attention:
        mixer = [("q_proj", H, shape.queries, 1.0), ("o_proj", shape.queries, H, 1.0)]
        mixer += [(name, H, shape.keys, 1.0) for name in ("k_proj", "v_proj")]
    else:
        mixer = [("in_proj", H, 2 * D, 1.0), ("x_proj", D, narrow, 1.0)]
        mixer += [("dt_proj", shape.step_rank, D, 1.0), ("out_proj", D, H, 1.0)]
    name = "attention" if part.attention else "Mamba"
    if part.experts > 1:
        experts = [("gate_up_proj", H, 2 * F, float(K)), ("down_proj", F, H, float(K))]
        return {name: mixer, "experts": [("router", H, part.experts, 1.0), *experts]}
    return {
        name: mixer,
        "dense": [("gate_proj", H, F, 1.0), ("up_proj", H, F, 1.0), ("down_proj", F, H, 1.0)],
    }


def operations_of(shape: Shape, load: Load, *, checkpointing: bool, head_twice: bool) -> dict[str, float]:
    """Floating-point operations of an epoch by kind, forwards and backwards, scans left out."""
    told: dict[str, float] = {}
    again = 1 + checkpointing
    for part in shape.layers:
        for kind, made in products(shape, part).items():
            each = sum(_cost(part, *product, again=again) for product in made)
            told[kind] = told.get(kind, 0.0) + load.padded * each
        if part.attention:  # forwards two products of half a square each, backwards five
            scores = 2 * shape.queries * load.squares * (again + 2.5)
            told["scores"] = told.get("scores", 0.0) + scores
    head = _cost(shape.outside, "lm_head", shape.hidden, shape.vocabulary, 1.0, again=1 + head_twice)
    return {**told, "head": load.targets * head}


def _cost(part: Part, name: str, inputs: int, outputs: int, times: float, *, again: int) -> float:
    """Operations of a product for a token: forwards, for its input's gradient, and for its weight's."""
    rank = part.ranks.get(name, 0)
    whole = 2 * inputs * outputs * (again + 1 + part.trained)
    return times * (whole + 2 * rank * (inputs + outputs) * (again + 2))


def seconds_of(
    shape: Shape,
    step: Step,
    load: Load,
    formats: Formats,
    device: Device,
    *,
    devices: int,
    checkpointing: bool,
    at_once: int,
) -> Mapping[str, float]:
    """Seconds of an epoch by kind, if the devices share it evenly and exchange at no cost."""
    if not device.products:
        return {}
    twice = "lm_head" in shape.outside.ranks and step.targets > at_once
    counted = operations_of(shape, load, checkpointing=checkpointing, head_twice=twice)
    told = {kind: number / device.products for kind, number in counted.items()}
    mixers = sum(not part.attention for part in shape.layers)
    told["scan"] = mixers * load.padded * shape.channels * shape.states * device.scan
    layers, around = operations(shape, step, formats, at_once)
    kept = sum(each.saved for layer in (*layers, around) for each in layer) / max(1, step.tokens)
    moved = load.padded * kept * (_PASSES + 2 * checkpointing)
    moved += load.steps * _UPDATE * 4 * sum(part.learns for part in shape.parts) * devices
    told["memory traffic"] = moved / device.traffic
    told["each pass"] = load.passes * device.each * devices
    return {kind: each / devices for kind, each in told.items()}
