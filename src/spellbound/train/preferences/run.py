"""A whole run: from a recipe to an adapter in its folder. What `spellbound prefer` calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from spellbound.errors import InputError
from spellbound.files import creating_folder, replacing
from spellbound.jamba.lora import LoraPlan, load_adapter, save_adapter
from spellbound.train import adapters
from spellbound.train.devices import uses_bf16
from spellbound.train.encoding import TOKENIZER_FILES, Encoder
from spellbound.train.folder import ADAPTER, LOCK, RECIPE, claimed
from spellbound.train.heap import use_heap
from spellbound.train.log import Log
from spellbound.train.preferences.policy import Policy, as_policy
from spellbound.train.preferences.rows import Rows, encoded
from spellbound.train.preferences.settings import PreferenceRecipe
from spellbound.train.progress import Line, line, memory_gib
from spellbound.train.recipe import ComputeSettings
from spellbound.train.recipe_file import as_toml
from spellbound.train.start import base_folder, load_weights, tokenizer_folder

Say = Callable[[str], None]
_KEPT = {
    "loss": "loss",
    "grad_norm": "norm",
    "learning_rate": "rate",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen",
    "rewards/rejected": "rejected",
    "kl": "kl",
    "eval_loss": "valid",
    "eval_rewards/margins": "valid_margin",
    "eval_rewards/accuracies": "valid_accuracy",
}
"""What TRL says of a step, and what the log calls it."""


@dataclass(frozen=True, kw_only=True)
class PreferenceResult:
    """What a run left."""

    adapter: Path
    entries: tuple[dict[str, float], ...]
    """The log: loss, margin of the rewards of chosen over rejected, and more, by step."""
    dropped: int
    """Rows that were too long and left out."""


def prefer(recipe: PreferenceRecipe, *, say: Say) -> PreferenceResult:
    """Train an adapter as the recipe says, in this process.

    Raises InputError for a recipe, data or model that cannot be used, EnvironmentFault if TRL is missing.
    """
    from spellbound.train.preferences.trainers import new_trainer, quiet, steps_of, targets_alone

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "WORLD_SIZE is above 1: preferences are learnt in one process; start it without a launcher"
        )
    if torch.cuda.device_count() > 1:
        raise InputError(
            f"torch sees {torch.cuda.device_count()} GPUs: preferences are learnt on one;"
            " set CUDA_VISIBLE_DEVICES=0"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = uses_bf16(ComputeSettings(precision=recipe.compute.precision), device.type)
    if device.type == "cpu" and (note := use_heap().note):
        say(note)
    _require_empty(recipe.run.folder)
    disable_progress_bar()  # transformers' own, of loading
    with claimed(recipe.run.folder, resume=True):
        say(as_toml(recipe))
        base = _base(recipe)
        encoder = Encoder(tokenizer_folder(recipe.model, base))
        train, valid = _rows(recipe, recipe.data.pairs or recipe.data.thumbs, encoder, say), None
        if recipe.data.validation:
            valid = _rows(recipe, recipe.data.validation, encoder, say)
        model = _policy(recipe, base, encoder, device, say)
        with replacing(recipe.run.folder / RECIPE) as draft:
            draft.write_text(as_toml(recipe), encoding="utf-8")
        steps = steps_of(recipe, len(train.rows))
        with (
            Log(recipe.run.folder, 0, tensorboard=recipe.run.tensorboard) as log,
            line(recipe.run.folder.name, 0, steps, shown=True) as shown,
            quiet(),
            targets_alone(),
        ):
            notes = _Notes(log, shown, device)
            trainer = new_trainer(recipe, model, encoder, train, valid, device, bf16=bf16, on_log=notes.take)
            trainer.train()
            if valid is not None:
                trainer.evaluate()
        target = recipe.run.folder / ADAPTER
        with creating_folder(target) as draft:
            save_adapter(model, draft, base_name=recipe.model.base)
            for name in TOKENIZER_FILES:
                if (encoder.folder / name).is_file():
                    shutil.copyfile(encoder.folder / name, draft / name)
    say(f"{target}: {steps:,} updates; {_told(notes.entries)}")
    return PreferenceResult(adapter=target, entries=tuple(notes.entries), dropped=train.dropped)


class _Notes:
    """Takes what TRL logs, under the names of our log."""

    def __init__(self, log: Log, shown: Line, device: torch.device) -> None:
        self.entries: list[dict[str, float]] = []
        self._log, self._shown, self._device = log, shown, device
        self._begin = self._since = monotonic()
        self._tokens = 0

    def take(self, step: int, logs: dict[str, float]) -> None:
        entry: dict[str, Any] = {_KEPT[key]: float(value) for key, value in logs.items() if key in _KEPT}
        if not entry:
            return
        self.entries.append({"step": float(step), **entry})
        memory = memory_gib(self._device)
        if "loss" in entry:
            entry |= self._pace(int(logs.get("num_tokens", 0)))
            self._shown.advance(entry["loss"], entry["speed"], memory)
        self._log.add(step, **entry, memory=memory)

    def _pace(self, tokens: int) -> dict[str, float]:
        """Say how far the run is and how fast; `tokens` are those of the run so far."""
        before, since = self._tokens, self._since
        self._tokens, self._since = tokens, monotonic()
        return {
            "tokens": tokens,
            "seconds": self._since - self._begin,
            "speed": (tokens - before) / max(self._since - since, 1e-9),
        }


def _require_empty(folder: Path) -> None:
    """Refuse a folder with a run in it: a run of preferences is short, and is not gone on with."""
    there = sorted(each.name for each in folder.iterdir() if each.name != LOCK) if folder.is_dir() else []
    if there:
        raise InputError(f"{folder}: is not empty ({there[0]!r} is there); give another run.folder")


def _base(recipe: PreferenceRecipe) -> Path:
    base = base_folder(recipe.model)
    if base is None:
        raise InputError("model.base is empty; give a folder")
    return base


def _rows(recipe: PreferenceRecipe, paths: Sequence[Path], encoder: Encoder, say: Say) -> Rows:
    made = encoded(recipe.method, paths, recipe.data, encoder, recipe.schedule.seed)
    names = ", ".join(path.name for path in paths)
    say(f"{names}: {len(made.rows):,} rows, {made.tokens:,} tokens, {made.dropped:,} left out as too long")
    if recipe.method == "kto":
        good = sum(bool(row["label"]) for row in made.rows)
        say(f"{names}: {good:,} good and {len(made.rows) - good:,} bad")
    return made


def _policy(recipe: PreferenceRecipe, base: Path, encoder: Encoder, device: torch.device, say: Say) -> Policy:
    """Load the model with its adapter, and say what is trained."""
    usual = torch.bfloat16 if device.type == "cuda" else torch.float32
    kind = {"auto": usual, "float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.model.dtype]
    model = load_weights(base, kind, device)
    if encoder.size > model.config.vocab_size:
        raise InputError(
            f"{encoder.folder}: the tokenizer has {encoder.size} tokens and the model"
            f" {model.config.vocab_size}; they do not belong together"
        )
    if recipe.start is None:
        plan = adapters.attach(model, recipe.adapter, recipe.model.seed)
    else:
        plan = load_adapter(model, recipe.start, trainable=True)
    _require_reached(plan)
    for told in plan.lines():
        say(told)
    return as_policy(model, encoder.tokenizer)


def _require_reached(plan: LoraPlan) -> None:
    """Refuse an adapter on the head: TRL reads the head's own weight, so it would learn nothing."""
    for row in plan.rows:
        if row.name.rpartition(".")[2] == "lm_head":
            raise InputError("adapter.targets has lm_head, which preferences cannot train; take it out")


def _told(entries: list[dict[str, float]]) -> str:
    """Say how the first and the last entry of the log differ."""
    steps = [entry for entry in entries if "loss" in entry]
    words = f"loss {steps[0]['loss']:.4f} to {steps[-1]['loss']:.4f}"
    margins = [entry["margin"] for entry in steps if "margin" in entry]
    if margins:
        words += f", margin {margins[0]:.4f} to {margins[-1]:.4f}"
    for entry in entries:
        if "valid" in entry:
            words += f", validation loss {entry['valid']:.4f}, margin {entry.get('valid_margin', 0.0):.4f}"
    return words
