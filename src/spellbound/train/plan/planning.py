"""The plan of a run: how much memory each device will need at most, and how long an epoch will take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from spellbound.files import replacing
from spellbound.train.devices import uses_bf16
from spellbound.train.loss import positions_at_once
from spellbound.train.plan.hardware import Device
from spellbound.train.plan.memory import Memory, Spread, peak
from spellbound.train.plan.saved import Formats, Step
from spellbound.train.plan.shape import Shape
from spellbound.train.plan.work import Load, seconds_of
from spellbound.train.recipe import Recipe
from spellbound.train.start import number_format, weight_bytes

FILE = "plan.json"
_GIB = 2**30
_SHOWN = 1e-3  # smaller shares of the whole have no line


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is foreseen."""

    device: Device
    spread: Spread
    step: Step
    load: Load
    epochs: float
    memory: Memory
    seconds: Mapping[str, float]
    """Of an epoch, by kind of work; empty where no rates are known."""

    @property
    def measurable(self) -> float:
        """Bytes that `peak.highest` should find: on a GPU it counts tensors alone."""
        return self.memory.total - (self.device.fixed if self.device.gpu else 0.0)

    @property
    def fits(self) -> bool:
        """Whether the device has that much."""
        return self.memory.total <= self.device.memory


def formats_of(recipe: Recipe, *, gpu: bool) -> Formats:
    """How large numbers are in this run."""
    kind = number_format(recipe, torch.device("cuda" if gpu else "cpu"))
    weights = 2 if kind == torch.bfloat16 else 4
    half = recipe.compute.precision != "fp32" if gpu else uses_bf16(recipe.compute, "cpu")
    dropout = recipe.method == "lora" and recipe.adapter.dropout > 0
    return Formats(weights=weights, products=2 if half else weights, gpu=gpu, dropout=dropout)


def make_plan(
    recipe: Recipe,
    shape: Shape,
    device: Device,
    spread: Spread,
    reading: tuple[Step, Load, int],
) -> Plan:
    """Put together what is known; nothing is loaded."""
    step, load, turns = reading
    formats = formats_of(recipe, gpu=device.gpu)
    again = recipe.compute.gradient_checkpointing
    at_once = recipe.compute.head_tokens or positions_at_once(shape.vocabulary, gpu=device.gpu)
    memory = peak(
        shape,
        step,
        formats,
        spread,
        at_once=at_once,
        checkpointing=again,
        turns=turns,
        fixed=device.fixed,
        heap=device.heap,
        files=0.0 if device.gpu else weight_bytes(recipe.model),
    )
    seconds = seconds_of(
        shape,
        step,
        load,
        formats,
        device,
        devices=min(spread.devices, recipe.schedule.batch),  # the others have nothing to read
        checkpointing=again,
        at_once=at_once,
    )
    steps = recipe.schedule.steps
    epochs = steps / load.steps if steps else float(recipe.schedule.epochs)
    return Plan(
        device=device, spread=spread, step=step, load=load, epochs=epochs, memory=memory, seconds=seconds
    )


def lines(plan: Plan) -> list[str]:
    """The plan for people: terms of the peak, then the time."""
    memory, step, load = plan.memory, plan.step, plan.load
    many = f"{plan.spread.devices} x " if plan.spread.devices > 1 else ""
    shared = ", sharded (FSDP2 or ZeRO-3)" if plan.spread.shards > 1 else ""
    told = [
        (
            f"plan for {many}{plan.device.name}{shared}: {step.rows} x {step.time:,} tokens at once,"
            f" {step.targets:,} of them learnt"
        ),
        *(
            f"  {name:28}{size / _GIB:10.2f} GiB"
            for name, size in memory.terms.items()
            if size > _SHOWN * memory.total
        ),
        (
            f"  {'at most, on each':28}{memory.total / _GIB:10.2f} GiB  ({memory.moment};"
            f" there are {plan.device.memory / _GIB:.1f} GiB: {'it fits' if plan.fits else 'too little'})"
        ),
    ]
    if plan.device.heap is not None and plan.device.heap.note:
        told.append(f"  {plan.device.heap.note}")
    if not plan.seconds:
        return told
    whole = sum(plan.seconds.values())
    parts = ", ".join(f"{kind} {each / whole:.0%}" for kind, each in plan.seconds.items())
    speed = load.tokens / whole
    told += [
        (
            f"  an epoch of {load.tokens:,} tokens in {load.steps:,} steps: {spoken(whole)},"
            f" {speed:,.0f} tokens/s ({plan.device.basis})"
        ),
        f"  of which {parts}",
    ]
    if plan.epochs != 1:
        told.append(f"  the run, {plan.epochs:.3g} epochs: {spoken(whole * plan.epochs)}")
    return told


def spoken(seconds: float) -> str:
    """A time in the unit that people would use."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def against(plan: Plan, measured: float, base: float, seconds: float) -> list[str]:
    """Prediction and measurement side by side, after the first steps.

    `measured` bytes at most, `base` of them before the model was made, and `seconds` a token.
    """
    foreseen = plan.measurable
    told = [_pair("memory at most", foreseen / _GIB, measured / _GIB, "GiB")]
    if base:
        told.append(_pair("  of it for training", (foreseen - base) / _GIB, (measured - base) / _GIB, "GiB"))
    if plan.seconds and seconds:
        speed = plan.load.tokens / sum(plan.seconds.values())
        told.append(_pair("tokens a second", speed, 1 / seconds, ""))
    return told


def _pair(name: str, foreseen: float, measured: float, unit: str) -> str:
    off = f"{foreseen / measured - 1:+.0%}" if measured > 0 else "-"
    return f"  {name:28} planned {foreseen:10,.2f}   measured {measured:10,.2f} {unit:4} {off}"


def write_plan(folder: Path, plan: Plan, **measured: float) -> None:
    """Leave the plan, and what was measured so far, in the run's folder for the report."""
    values = {
        "memory_gib": plan.measurable / _GIB,
        "terms_gib": {name: size / _GIB for name, size in plan.memory.terms.items()},
        "moment": plan.memory.moment,
        "measured": measured,
    }
    if plan.seconds:
        values["seconds"] = sum(plan.seconds.values()) * plan.epochs
    with replacing(folder / FILE) as draft:
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
