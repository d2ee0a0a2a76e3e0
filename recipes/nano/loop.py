"""The training loop of pretraining and SFT: from packed rows to a model, in steps, cut off wherever you like.

A run resumed from its checkpoint does what the unbroken run would have done, bit for bit: rates and rows
follow from the step, everything else (weights, optimizer, random state) is in the checkpoint.
"""

import math
import pickle
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recipes.nano import workers
from recipes.nano.files import replacing
from recipes.nano.model import parameter_groups
from recipes.nano.packing import Rows
from recipes.nano.progress import Line, Log, line
from recipes.nano.schedule import Schedule
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.documents import Documents

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is given."""

    folder: Path
    title: str
    schedule: Schedule
    decay: float = 0.1
    clip: float = 1.0
    bf16: bool = False
    """Matrix products in bfloat16; weights, optimizer and sums stay float32."""
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    """Steps between entries of the log."""
    valid_every: int = 200
    """Steps between measurements on the validation rows."""
    valid_rows: int = 32


def packed_loss(model: JambaForCausalLM, batch: Batch) -> torch.Tensor:
    """Loss of our own model on packed rows, `labels` being -100 at the first token of every document.

    The head reads only positions that have a target: a third of them in SFT, which saves a seventh of a step.
    """
    targets = batch["labels"][:, 1:]
    wanted = targets >= 0
    if not bool(wanted.any()):  # their mean would be NaN, and one such share of a batch would end the run
        return sum((weight.sum() * 0.0 for weight in model.parameters()), torch.zeros(()))
    hidden = model.model(batch["input_ids"], None, Documents.of(batch["document_ids"], batch["input_ids"]))
    logits = model.lm_head(hidden[:, :-1][wanted])
    return nn.functional.cross_entropy(logits.float(), targets[wanted])


class Trainer:
    """One run: `train()` goes on from the checkpoint if there is one."""

    def __init__(
        self,
        model: JambaForCausalLM,
        rows: Rows,
        valid: Rows | None,
        run: Run,
    ) -> None:
        """Loads the run's checkpoint, if there is one, into the model."""
        self.model, self.rows, self.valid, self.run = model, rows, valid, run
        self.optimizer = torch.optim.AdamW(parameter_groups(model, run.decay), betas=(0.9, 0.95), eps=1e-8)
        self.step = 0
        self.seconds = 0.0
        self._load()
        self.log = Log(run.folder / "log.jsonl", self.step)
        self.leads = workers.rank() == 0

    @property
    def tokens(self) -> int:
        """Tokens of the rows gone through so far, padding included."""
        return self.step * self.run.schedule.batch * int(self.rows.meta["length"])

    def train(self, steps: int | None = None) -> None:
        """Goes on to the end of the schedule, or for so many steps; leaves checkpoint, log and curve."""
        end = self.run.schedule.steps if steps is None else min(self.run.schedule.steps, self.step + steps)
        saved = time.monotonic()
        with line(self.run.title, self.step, self.run.schedule.steps, shown=self.leads) as shown:
            while self.step < end:
                self._advance(shown)
                if time.monotonic() - saved > self.run.checkpoint_seconds and self.step < end:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _advance(self, shown: Line) -> None:
        started = time.monotonic()
        loss, norm = self.take_step()
        spent = time.monotonic() - started
        self.seconds += spent
        speed = self.run.schedule.batch * int(self.rows.meta["length"]) / spent
        shown.advance(loss, speed)
        if (self.step - 1) % self.run.log_every == 0 or self.step == self.run.schedule.steps:
            rate = self.run.schedule.rate_at(self.step - 1)
            entry = {"loss": loss, "norm": norm, "rate": rate, "speed": speed, "seconds": self.seconds}
            self.log.add(step=self.step - 1, tokens=self.tokens, **entry)
        if self.valid and (self.step % self.run.valid_every == 0 or self.step == self.run.schedule.steps):
            self.log.add(step=self.step - 1, tokens=self.tokens, valid=self.validate())

    def take_step(self) -> tuple[float, float]:
        """One update; the loss before it and the gradient's norm before clipping."""
        schedule = self.run.schedule
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate_at(self.step)
        self.model.train()
        chosen = schedule.rows_at(self.step, len(self.rows))
        batch = self.rows.batch(chosen[workers.rank() :: workers.count()])
        # Every target weighs the same, whichever process it fell to.
        targets = float((batch["labels"][:, 1:] >= 0).sum())
        share = targets / max(1.0, workers.summed(targets))
        with self._autocast():
            loss = packed_loss(self.model, batch) * share
        loss.backward()
        workers.sum_gradients(self.model)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        value, size = workers.summed(loss.item()), norm.item()
        if not math.isfinite(value + size):
            raise InputError(
                f"loss {value} at step {self.step}, '{self.run.folder}'; give a lower --rate and --fresh"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return value, size

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss over the first validation rows, in nats a target."""
        if self.valid is None:
            raise ValueError("this run has no validation rows; give some")
        self.model.eval()
        total = targets = 0.0
        count = min(len(self.valid), self.run.valid_rows)
        for start in range(0, count, self.run.schedule.batch):
            batch = self.valid.batch(range(start, min(count, start + self.run.schedule.batch)))
            weight = int((batch["labels"][:, 1:] >= 0).sum())
            with self._autocast():
                total += float(packed_loss(self.model, batch)) * weight
            targets += weight
        return total / max(1.0, targets)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.run.bf16)

    def save(self) -> None:
        """Writes checkpoint, log and curve; only one process does."""
        if not self.leads:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "schedule": asdict(self.run.schedule),
        }
        with replacing(self.run.folder / "checkpoint.pt") as draft:
            torch.save(state, draft)
        self.log.write()

    def _load(self) -> None:
        path = self.run.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = read_checkpoint(self.run.folder)
        if state["schedule"] != asdict(self.run.schedule):
            raise InputError(
                f"'{path}' has other settings ({_difference(state['schedule'], self.run.schedule)}); "
                "give the same ones to go on, or --fresh to begin again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]


def _difference(was: dict[str, Any], schedule: Schedule) -> str:
    now = asdict(schedule)
    return ", ".join(f"{key} {was.get(key)} not {now[key]}" for key in now if was.get(key) != now[key])


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """A run's checkpoint; an error that names the command if there is none."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"no checkpoint in '{folder}'; make it with: python -m recipes.nano.{folder.name}")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"'{path}' is damaged; begin again with --fresh") from error
    return state


def measured_speed(model: JambaForCausalLM, rows: Rows, run: Run, trials: int = 4) -> float:
    """Tokens a second of forward and backward, weights untouched; the first trial warms up, uncounted."""
    times: list[float] = []
    for trial in range(trials):
        started = time.monotonic()
        batch = rows.batch(run.schedule.rows_at(trial, len(rows)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=run.bf16):
            packed_loss(model, batch).backward()
        model.zero_grad(set_to_none=True)
        times.append(time.monotonic() - started)
    return run.schedule.batch * int(rows.meta["length"]) / (sum(times[1:]) / (trials - 1))
