"""The training loop: from tokens to weights, in steps, cut off wherever you like.

A run that goes on from a checkpoint does what the unbroken run would have done, bit for bit: rates, rows and
random numbers follow from the step, everything else is in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spellbound.errors import InputError
from spellbound.train import adapters, checkpoints, zero
from spellbound.train.batches import Batch, collate, shares
from spellbound.train.dataset import Dataset
from spellbound.train.devices import inner, summed
from spellbound.train.log import Log
from spellbound.train.loss import Learner
from spellbound.train.prepared import steps_of
from spellbound.train.progress import Line, memory_gib
from spellbound.train.recipe import Recipe
from spellbound.train.rows import Indices, Order
from spellbound.train.schedule import rate_at
from spellbound.train.start import parameter_groups
from spellbound.train.tokens import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

    from spellbound.jamba import JambaForCausalLM

_TINY = 1e-12  # keeps what has no targets from being divided by 0


@dataclass
class Running:
    """What a run counts; part of every checkpoint."""

    tokens: int = 0
    """Read so far by all processes, padding not counted."""
    seconds: float = 0.0
    """Spent in steps."""
    nats: float = 0.0
    """Weighted, since the last entry of the log."""
    weight: float = 0.0
    """Of the targets since then."""


class Trainer:
    """One run of steps over a model that Accelerate has spread as it was told to."""

    def __init__(
        self,
        recipe: Recipe,
        model: JambaForCausalLM,
        accelerator: Accelerator,
        *,
        order: Order,
        dataset: Dataset,
        pad_id: int,
    ) -> None:
        """Prepare model and optimizer for the devices."""
        self.recipe, self.accelerator, self.order = recipe, accelerator, order
        self.train_tokens, self.valid_tokens, self._pad_id = dataset.train, dataset.valid, pad_id
        self.steps, self.step = steps_of(recipe, order), 0
        self._watch = adapters.Watch()
        self._watched = recipe.method == "lora" and not zero.used(accelerator)  # ZeRO keeps gradients itself
        self.running = Running()
        if recipe.compute.gradient_checkpointing:
            model.activation_checkpointing_enable()
        balance = recipe.optimizer.router_loss > 0
        learner = Learner(model, head_tokens=recipe.compute.head_tokens, balance=balance)
        given = recipe.optimizer
        made = torch.optim.AdamW(
            parameter_groups(learner, given.decay),
            lr=recipe.schedule.rate,
            betas=(given.beta1, given.beta2),
            eps=given.epsilon,
            fused=True,
        )
        if zero.used(accelerator):
            zero.make_ready(accelerator, model, recipe)
        self.learner, self.optimizer = accelerator.prepare(learner, made)

    @property
    def model(self) -> JambaForCausalLM:
        """The model itself."""
        found: JambaForCausalLM = inner(self.accelerator, self.learner)
        return found

    def take_step(self) -> tuple[float, float]:
        """One update. Return the mean loss before it, in nats a target, and the gradient's norm.

        Raises InputError if the loss is not finite; the weights are as they were before.
        """
        started = time.monotonic()
        schedule, accelerator = self.recipe.schedule, self.accelerator
        rate = rate_at(schedule, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.learner.train()
        _, rows = self.order.at(self.step)
        weight, tokens = self._weight(self.train_tokens, rows), self._lengths(self.train_tokens, rows)
        # Dropout of a step is the same however often the run was broken off before.
        torch.manual_seed(_mixed(schedule.seed, self.step, accelerator.process_index))
        nats, used = 0.0, 0.0
        turns = self._turns(self.train_tokens, rows)
        for number, batch in enumerate(turns):
            with self._accumulating(last=number == len(turns) - 1):
                told, balance = self._ask(batch)
                loss = told / max(weight, _TINY)
                if self.recipe.optimizer.router_loss:
                    loss = loss + balance * (self.recipe.optimizer.router_loss * batch.tokens / tokens)
                # What wraps the model takes the mean over processes of gradients that are to be summed.
                accelerator.backward(loss * accelerator.num_processes)
            nats, used = nats + told.item(), used + batch.tokens
        if self._watched and self.step < adapters.STEPS:
            self._watch.look(self.model)
        limit = self.recipe.optimizer.clip or math.inf
        norm = float(accelerator.clip_grad_norm_(self.learner.parameters(), limit) or 0.0)
        nats, used = summed(accelerator, [nats, used])
        if not math.isfinite(nats + norm):
            raise InputError(
                f"loss {nats / max(weight, _TINY)}, gradient {norm} at step {self.step + 1} of"
                f" '{self.recipe.run.folder}'; give a lower schedule.rate and a new run.folder"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self._watched and self.step == adapters.STEPS:
            self._watch.require_all(self.model)
        self.running.tokens += int(used)
        self.running.seconds += time.monotonic() - started
        self.running.nats += nats
        self.running.weight += weight
        return nats / max(weight, _TINY), norm

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss over the first validation rows, in nats a target; NaN if there are none."""
        count = min(len(self.valid_tokens), self.recipe.run.validate_rows)
        if not count:
            return math.nan
        self.learner.eval()
        total, batch = 0.0, self.recipe.schedule.batch
        rows = [np.array([place], dtype=np.int64) for place in self._spread_out(count)]
        for start in range(0, count, batch):
            for turn in self._turns(self.valid_tokens, rows[start : start + batch]):
                total += self._ask(turn)[0].item()
        return summed(self.accelerator, [total])[0] / max(self._weight(self.valid_tokens, rows), _TINY)

    def snapshot(self) -> checkpoints.Snapshot:
        """What is trained, in one piece; every process has to call this."""
        if zero.used(self.accelerator):
            return zero.take(self.model)
        return checkpoints.take(self.model, self._bare_optimizer)

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        state = checkpoints.read_state(checkpoint)
        if self.accelerator.device.type == "cpu" and "threads" in state:
            torch.set_num_threads(int(state["threads"]))  # the last digits of a sum depend on who shares it
        if zero.used(self.accelerator):
            zero.load(self.learner, checkpoint.parent, int(state["step"]))
        else:
            kept = checkpoints.read_snapshot(checkpoint)
            checkpoints.put(kept, self.model, self._bare_optimizer, checkpoint)
        self.step, self.running = int(state["step"]), Running(**state["running"])

    @property
    def _bare_optimizer(self) -> torch.optim.Optimizer:
        bare: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return bare

    def _spread_out(self, count: int) -> list[int]:
        """Samples over all of the validation set, the longest of them together."""
        places = np.linspace(0, len(self.valid_tokens) - 1, count).round().astype(np.int64)
        lengths = self.valid_tokens.lengths[places]
        return [int(place) for place in places[np.argsort(-lengths, kind="stable")]]

    def _turns(self, tokens: Tokens, rows: list[Indices]) -> list[Batch]:
        """This process's share of some rows, as batches."""
        given = shares(
            rows,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            at_once=self.recipe.compute.rows,
        )
        packed = self.recipe.data.batching == "packed"
        turns: list[Batch] = []
        for part, counts in given:
            batch = collate(tokens, part, pad_id=self._pad_id, packed=packed)
            turns.append((batch if counts else batch.muted()).to(self.accelerator.device))
        return turns

    def _ask(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats and the routers' loss of a batch."""
        told: tuple[torch.Tensor, torch.Tensor] = self.learner(
            batch.input_ids_BT, batch.documents_BT, batch.targets_BT, batch.weights_BT, batch.lengths_B
        )
        return told

    @contextmanager
    def _accumulating(self, *, last: bool) -> Iterator[None]:
        """Exchange gradients between processes only with a step's last rows."""
        state: Any = self.accelerator.gradient_state
        state._set_sync_gradients(last)
        with nullcontext() if last else self.accelerator.no_sync(self.learner):
            yield

    @staticmethod
    def _lengths(tokens: Tokens, rows: list[Indices]) -> int:
        return int(tokens.lengths[np.concatenate(rows)].sum())

    @staticmethod
    def _weight(tokens: Tokens, rows: list[Indices]) -> float:
        return tokens.weights(np.concatenate(rows))


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


@dataclass
class Clock:
    """When to write a checkpoint; asked by one process alone, for clocks differ."""

    minutes: float
    steps: int
    saved: float = field(default_factory=time.monotonic)

    def wants(self, step: int) -> bool:
        """Whether it is time."""
        due = time.monotonic() - self.saved > 60 * self.minutes
        return due or bool(self.steps and step % self.steps == 0)


def run_steps(
    trainer: Trainer,
    log: Log | None,
    shown: Line,
    save: Callable[[], None],
    stopped: Callable[[], bool],
    after_step: Callable[[], None] = lambda: None,
) -> bool:
    """Take all steps that are left, noting and saving as the recipe says; False if it was stopped before."""
    run, accelerator = trainer.recipe.run, trainer.accelerator
    clock = Clock(run.checkpoint_minutes, run.checkpoint_steps)
    while trainer.step < trainer.steps:
        before = trainer.running.seconds, trainer.running.tokens
        loss, norm = trainer.take_step()
        speed = (trainer.running.tokens - before[1]) / (trainer.running.seconds - before[0])
        memory = memory_gib(accelerator.device)
        shown.advance(loss, speed, memory)
        after_step()
        last = trainer.step == trainer.steps
        if trainer.step % run.log_every == 0 or last or trainer.step == 1:
            _note(trainer, log, norm, speed, memory)
        if len(trainer.valid_tokens) and (last or _every(run.validate_every, trainer.step)):
            valid = trainer.validate()
            if log:
                log.add(trainer.step, tokens=trainer.running.tokens, valid=valid)
        wishes = [clock.wants(trainer.step), stopped()] if accelerator.is_main_process else [False, stopped()]
        wants, ends = summed(accelerator, [float(wish) for wish in wishes])
        if last or wants or ends:
            save()
            clock.saved = time.monotonic()
        if ends and not last:
            return False
    return True


def _every(steps: int, step: int) -> bool:
    return steps > 0 and step % steps == 0


def _note(trainer: Trainer, log: Log | None, norm: float, speed: float, memory: float) -> None:
    """Note the mean loss since the last entry."""
    running, schedule = trainer.running, trainer.recipe.schedule
    loss = running.nats / max(running.weight, _TINY)
    running.nats = running.weight = 0.0
    if log:
        log.add(
            trainer.step,
            tokens=running.tokens,
            loss=loss,
            norm=norm,
            rate=rate_at(schedule, trainer.step - 1, trainer.steps),
            speed=speed,
            memory=memory,
            seconds=running.seconds,
        )
