"""The command that pretraining and SFT share: options, budget, model, then the loop."""

import argparse
import math
import os
import time
from collections.abc import Callable

import torch

from recipes.nano import console, loop, model, packing, workers
from recipes.nano.schedule import Schedule
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM


def parser(
    name: str, description: str | None, *, rate: float, batch: int, tokens: int
) -> argparse.ArgumentParser:
    """Options of a training command, with this stage's defaults."""
    made = console.parser(name, description)
    budget = made.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=int, default=tokens, help="length of the run in tokens")
    budget.add_argument(
        "--minutes", type=float, help="length in minutes instead, from the speed measured now"
    )
    made.add_argument("--rate", type=float, default=rate, help="highest learning rate")
    made.add_argument("--batch", type=int, default=batch, help="rows in a step")
    made.add_argument(
        "--workers",
        type=int,
        help="processes of one thread each; else as many as cores allow and divide --batch",
    )
    made.add_argument("--bf16", action="store_true", help="matrix products in bfloat16")
    made.add_argument("--fresh", action="store_true", help="begin again although there is a checkpoint")
    return made


def add_begin(made: argparse.ArgumentParser, stage: str) -> None:
    """Adds the option that names the stage whose weights this one begins from."""
    made.add_argument("--begin", default=stage, metavar="STAGE", help="folder under OUT to begin from")


def continued(stage: str) -> Callable[[argparse.Namespace], None]:
    """The command of a stage that goes on from the weights of another."""

    def command(options: argparse.Namespace) -> None:
        def begin(network: JambaForCausalLM) -> None:
            network.load_state_dict(loop.read_checkpoint(options.out / options.begin)["model"])

        train(stage, options, begin)

    return command


def train(stage: str, options: argparse.Namespace, begin: Callable[[JambaForCausalLM], None]) -> None:
    """Runs a stage (`pretrain` or `sft`) from its checkpoint, or from what `begin` puts into a new model."""
    count = _checked_workers(options)
    if options.fresh:
        (options.out / stage / "checkpoint.pt").unlink(missing_ok=True)
    workers.run(_train, count, stage, options, begin)


def _checked_workers(options: argparse.Namespace) -> int:
    """How many processes; refuses options that no run can have."""
    for name in ("rate", "minutes"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"--{name} {value}: give a number above 0")
    batch, count = options.batch, options.workers
    if count is None and batch > 0:
        count = max(n for n in range(1, (os.cpu_count() or 1) + 1) if batch % n == 0)
    if batch < 1 or count < 1 or batch % count:
        raise InputError(f"--workers {count}, --batch {batch}: give a batch that is a multiple")
    return int(count)


def _train(stage: str, options: argparse.Namespace, begin: Callable[[JambaForCausalLM], None]) -> None:
    workers.keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rows = packing.read(options.out / "data" / stage)
    valid = packing.read(options.out / "data" / f"{stage}_valid")
    folder = options.out / stage
    network = JambaForCausalLM(model.config())
    goes_on = (folder / "checkpoint.pt").is_file()
    if goes_on:
        schedule = Schedule(**loop.read_checkpoint(folder)["schedule"])
    else:
        begin(network)
        schedule = planned(options, network, rows)
    run = loop.Run(folder=folder, title=stage, schedule=schedule, bf16=options.bf16)
    trainer = loop.Trainer(network, rows, valid, run)
    size = sum(weight.numel() for weight in network.parameters())
    budget = schedule.steps * schedule.batch * int(rows.meta["length"])
    if not trainer.leads:
        trainer.train()
        return
    print(f"{stage}: {size:,} parameters, {len(rows):,} rows, {schedule.steps:,} steps, {budget:,} tokens")
    if goes_on:
        print(f"goes on from step {trainer.step:,} with the checkpoint's settings; --fresh begins again")
    started = time.monotonic()
    trainer.train()
    spent = (time.monotonic() - started) / 60
    print(f"{folder}: step {trainer.step:,}, {spent:.1f} minutes now, {trainer.seconds / 60:.1f} in all")


def planned(options: argparse.Namespace, network: JambaForCausalLM, rows: packing.Rows) -> Schedule:
    """The schedule of a new run: as many steps as the budget of tokens, or of minutes, allows."""
    draft = Schedule(steps=1, batch=options.batch, rate=options.rate, seed=options.seed)
    tokens = options.tokens
    if options.minutes is not None:
        run = loop.Run(folder=options.out, title="speed", schedule=draft, bf16=options.bf16)
        # The optimizer, validation and checkpoints take about a tenth on top of what is measured.
        speed = workers.summed(loop.measured_speed(network, rows, run))
        tokens = int(speed * options.minutes * 60 * 0.9)
    steps = tokens // (options.batch * int(rows.meta["length"]))
    if steps < 1:
        raise InputError(
            f"{tokens} tokens are less than one step of {options.batch} rows; give more --tokens"
        )
    return Schedule(steps=steps, batch=options.batch, rate=options.rate, seed=options.seed)
