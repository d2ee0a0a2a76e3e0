"""A whole run: from a recipe to weights or an adapter in its folder. What `spellbound train` calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict

import torch
from transformers.utils.logging import disable_progress_bar

from spellbound.errors import InputError
from spellbound.files import creating_folder
from spellbound.jamba.storing import storing
from spellbound.train import adapters, checkpoints, launch, samples, start, zero
from spellbound.train.dataset import Dataset
from spellbound.train.devices import new_accelerator, one_piece
from spellbound.train.encoding import TOKENIZER_FILES, Encoder
from spellbound.train.folder import (
    ADAPTER,
    CHECKPOINTS,
    MODEL,
    claimed,
    require_same,
    require_same_base,
    write_recipe,
)
from spellbound.train.heap import use_heap
from spellbound.train.log import Log
from spellbound.train.loop import Trainer, run_steps
from spellbound.train.plan.watching import Watched
from spellbound.train.prepared import described, order_of, prepared
from spellbound.train.progress import line, reading
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import as_toml, as_values
from spellbound.train.report import write_report
from spellbound.train.stopping import Stop

Say = Callable[[str], None]
"""Takes a line for people; a function of a module, for it is handed to other processes."""
_MOST_PROCESSES = 64  # where there are fewer cores


def train(recipe: Recipe, *, resume: bool, say: Say) -> None:
    """Train as the recipe says, from its last checkpoint if `resume`.

    Raises InputError for a recipe, data or model that cannot be used, EnvironmentFault for what this machine
    lacks. A run that is stopped by SIGINT or SIGTERM leaves a checkpoint, then raises SystemExit.
    """
    count = recipe.run.processes
    most = max(_MOST_PROCESSES, os.cpu_count() or 1)
    if count > most:
        raise InputError(f"run.processes is {count}, with {os.cpu_count()} cores here; give {most} at most")
    if "WORLD_SIZE" in os.environ:  # `accelerate launch` or torchrun has started several of us
        if count > 1:
            raise InputError(
                f"run.processes is {count} under a launcher, which starts processes itself; give 1"
            )
        leads = os.environ.get("RANK", "0") == "0"
        with claimed(recipe.run.folder, resume=resume) if leads else nullcontext():
            work(recipe, resume, say)
        return
    if count > 1 and torch.cuda.is_available():
        raise InputError(
            f"run.processes is {count}, which is for CPUs; on GPUs give 1 and start with:"
            " accelerate launch -m spellbound train RECIPE.toml"
        )
    with claimed(recipe.run.folder, resume=resume):
        if count == 1:
            work(recipe, resume, say)
        else:
            with reading() as progress:  # once, before there are several of us
                prepared(recipe, progress)
            launch.several(work, count, recipe, resume, say)


def work(recipe: Recipe, resume: bool, say: Say) -> None:
    """What each process does; those that are not the first are silent."""
    disable_progress_bar()  # transformers' own, of loading and saving
    accelerator = new_accelerator(recipe.compute)
    leads = accelerator.is_main_process
    say = say if leads else _silent
    if accelerator.device.type == "cpu" and accelerator.num_processes > 1:
        torch.set_num_threads(1)
    with accelerator.main_process_first(), reading(shown=leads) as progress:
        if accelerator.device.type == "cpu":
            use_heap()  # compiled by the first of several
        encoder, dataset = prepared(recipe, progress)
    latest = checkpoints.found(recipe.run.folder / CHECKPOINTS)[-1:] if resume else []
    for checkpoint in latest:
        require_same(checkpoint, recipe, dataset.digests)
    say(as_toml(recipe))
    order = order_of(recipe, dataset)
    watched = Watched(recipe, order, dataset, accelerator)
    for told in watched.lines():
        say(told)
    model = start.start_model(
        recipe, start.base_folder(recipe.model), accelerator.device, whole=one_piece(accelerator)
    )
    if recipe.method == "lora":
        for told in adapters.attach(model, recipe.adapter, recipe.model.seed).lines():
            say(told)
    base = start.base_of(model)
    for checkpoint in latest if leads else ():  # not every process need have the weights yet
        require_same_base(checkpoint, base)
    trainer = Trainer(recipe, model, accelerator, order=order, dataset=dataset, pad_id=encoder.pad_id)
    _say_size(trainer, dataset, say)
    for checkpoint in latest:
        trainer.restore(checkpoint)
        say(f"goes on from {checkpoint}")
    if resume and not latest:
        say(f"no checkpoint in {recipe.run.folder}, so it begins with the first step")
    if leads:
        write_recipe(recipe.run.folder, recipe)
    if not trainer.step:
        _note_samples(trainer, dataset, encoder, "before")
    _take_steps(trainer, dataset, watched, base, say)
    _leave_result(trainer, encoder, say)
    _note_samples(trainer, dataset, encoder, "after")
    if leads:
        watched.note()
        page = write_report(recipe.run.folder, recipe.run.folder.name, dataset, as_toml(recipe))
        say(f"{page}: curves, samples, data and recipe")


def _take_steps(trainer: Trainer, dataset: Dataset, watched: Watched, base: str, say: Say) -> None:
    """All steps that are left, with log, live line and checkpoints; SystemExit if it was asked to stop."""
    accelerator, recipe = trainer.accelerator, trainer.recipe
    leads, run = accelerator.is_main_process, recipe.run

    def save() -> None:
        if zero.used(accelerator):
            zero.save(trainer.learner, run.folder / CHECKPOINTS, trainer.step)
        snapshot = trainer.snapshot()
        if leads:
            state = {
                "recipe": as_values(recipe),
                "digests": dataset.digests,
                "base": base,
                "running": asdict(trainer.running),
                "threads": torch.get_num_threads(),
            }
            checkpoints.write(run.folder / CHECKPOINTS, trainer.step, snapshot, state, run.keep)
            zero.remove_old(run.folder / CHECKPOINTS)
        accelerator.wait_for_everyone()  # nobody ends before it is written

    def compare() -> None:
        if leads:
            for told in watched.after_step(trainer.running, last=trainer.step == trainer.steps):
                say(told)

    noted = Log(run.folder, trainer.step, tensorboard=run.tensorboard) if leads else nullcontext()
    live = line(run.folder.name, trainer.step, trainer.steps, shown=leads)
    with noted as log, live as shown, Stop() as stop:
        finished = run_steps(trainer, log, shown, save, stop, compare)
    if not finished:
        say(f"stopped after step {trainer.step:,}; go on with --resume")
        raise SystemExit(stop.status if leads else 0)


def _note_samples(trainer: Trainer, dataset: Dataset, encoder: Encoder, moment: str) -> None:
    """Continue a few prompts; not with a model that is spread over processes."""
    run, accelerator = trainer.recipe.run, trainer.accelerator
    if run.samples and accelerator.is_main_process and one_piece(accelerator):
        prompts = samples.chosen_prompts(dataset.valid, dataset.train, run.samples)
        samples.note(run.folder, moment, prompts, trainer.model, encoder)
    accelerator.wait_for_everyone()


def _say_size(trainer: Trainer, dataset: Dataset, say: Say) -> None:
    trained = sum(weight.numel() for weight in checkpoints.trained(trainer.model).values())
    whole = sum(weight.numel() for weight in trainer.model.parameters())
    for told in described(dataset):
        say(told)
    rows = len(trainer.order.rows(0))
    say(
        f"{trained:,} of {whole:,} parameters trained, {rows:,} rows in the first epoch,"
        f" {trainer.steps:,} steps of {trainer.recipe.schedule.batch} rows"
    )


def _leave_result(trainer: Trainer, encoder: Encoder, say: Say) -> None:
    """Write the trained weights, or the adapter, into the run's folder."""
    recipe, snapshot = trainer.recipe, trainer.snapshot()
    if not trainer.accelerator.is_main_process:
        return
    target = recipe.run.folder / (ADAPTER if recipe.method == "lora" else MODEL)
    if target.is_dir():
        shutil.rmtree(target)
    with creating_folder(target) as draft, storing():
        if recipe.method == "lora":
            adapters.save(trainer.model, draft, recipe.model.base, snapshot.parameters)
        else:
            trainer.model.save_pretrained(draft, state_dict=snapshot.parameters)
        for name in TOKENIZER_FILES:
            if (encoder.folder / name).is_file():
                shutil.copyfile(encoder.folder / name, draft / name)
    running = trainer.running
    say(
        f"{target}: {trainer.step:,} steps, {running.tokens:,} tokens, {running.seconds / 60:.1f} minutes,"
        f" {running.tokens / max(running.seconds, 1e-9):,.0f} tokens/s"
    )


def _silent(text: str) -> None:
    """Say nothing."""
