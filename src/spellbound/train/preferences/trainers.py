"""TRL's trainers with our rows, and their settings: no cutting, no second model in memory, no router loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import environ
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback

from spellbound.errors import EnvironmentFault, InputError
from spellbound.train.adapters import STEPS, Watch
from spellbound.train.encoding import Encoder
from spellbound.train.preferences.policy import Policy
from spellbound.train.preferences.rows import Rows
from spellbound.train.preferences.settings import PreferenceRecipe
from spellbound.train.rows import padded
from spellbound.train.schedule import rate_at
from spellbound.train.start import parameter_groups

try:
    from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.trainer import utils as trl_utils
except ImportError as error:
    raise EnvironmentFault("TRL is not installed; run: pip install 'spellbound[train]'") from error

OnLog = Callable[[int, dict[str, float]], None]
"""Takes a step and what TRL says of it."""


class Paired(Sampler[int]):
    """The order of each epoch: rows of like length meet in a batch, batches come in random order.

    Padding would be half of all that is computed otherwise. The longest batch is the first.
    """

    def __init__(self, rows: Rows, batch: int, seed: int) -> None:
        """Take the rows, how many an update reads, and what the order follows from."""
        super().__init__()
        self._lengths, self._batch, self._seed = rows.lengths, batch, seed
        self._epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the places of the rows of the next epoch."""
        draw = np.random.default_rng([self._seed, self._epoch])
        self._epoch += 1
        chosen = draw.permutation(len(self._lengths))
        order = padded(chosen, self._lengths[chosen], self._batch, draw)
        return iter(order.members.tolist())


class _Ours:
    """What TRL's trainers should do otherwise here."""

    paired: Paired

    def _get_train_sampler(self, *_: Any) -> Paired:
        """Return our order."""
        return self.paired

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Take rows as they are: TRL's own encoding would read control tokens in a text."""
        return dataset

    def _send_telemetry(self) -> None:
        """Tell nobody that somebody trains."""


class _Dpo(_Ours, DPOTrainer):  # type: ignore[misc]
    """TRL's, with rows that are encoded already."""


class _Kto(_Ours, KTOTrainer):  # type: ignore[misc]
    """TRL's, with rows that are encoded already."""


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Hands on what is logged; stops a run in which an adapter learns nothing, or is no number any more."""

    def __init__(self, on_log: OnLog) -> None:
        self._on_log = on_log
        self._gradients = Watch()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        logs = logs or {}
        self._on_log(state.global_step, logs)
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise InputError(
                    f"step {state.global_step}: {name} is {logs[name]}; nothing is saved: give a smaller"
                    " schedule.rate or preference.beta"
                )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look at the gradients of the first updates."""
        if state.global_step < STEPS:
            self._gradients.look(model)
        if state.global_step == STEPS - 1:
            self._gradients.require_all(model)


def new_trainer(
    recipe: PreferenceRecipe,
    model: Policy,
    encoder: Encoder,
    train: Rows,
    valid: Rows | None,
    device: torch.device,
    *,
    bf16: bool,
    on_log: OnLog,
) -> Any:
    """Make TRL's trainer; the reference is the model as it is now, asked before it learns."""
    steps = steps_of(recipe, len(train.rows))
    optimizer = torch.optim.AdamW(
        parameter_groups(model, recipe.optimizer.decay),
        lr=recipe.schedule.rate,
        betas=(recipe.optimizer.beta1, recipe.optimizer.beta2),
        eps=recipe.optimizer.epsilon,
    )
    rates = LambdaLR(optimizer, lambda step: rate_at(recipe.schedule, step, steps) / recipe.schedule.rate)
    dpo = recipe.method == "dpo"
    trainer = (_Dpo if dpo else _Kto)(
        model=model,
        args=(DPOConfig if dpo else KTOConfig)(**_arguments(recipe, steps, device, bf16)),
        train_dataset=Dataset.from_list(train.rows),
        eval_dataset=None if valid is None else Dataset.from_list(valid.rows),
        processing_class=encoder.tokenizer,
        optimizers=(optimizer, rates),
        callbacks=[_Watch(on_log)],
    )
    trainer.paired = Paired(train, recipe.schedule.batch, recipe.schedule.seed)
    trainer.remove_callback(PrinterCallback)
    return trainer


def steps_of(recipe: PreferenceRecipe, rows: int) -> int:
    """Return the updates of a run."""
    return recipe.schedule.steps or recipe.schedule.epochs * math.ceil(rows / recipe.schedule.batch)


@contextmanager
def targets_alone() -> Iterator[None]:
    """Have TRL's head read only positions that have a target, also where it has no Triton.

    On a CPU it would read every token of the prompts, too, and a head costs as much as all layers of a small
    model. A TRL that decides otherwise is left alone.
    """
    decides = getattr(trl_utils, "_use_triton", None)
    if decides is None:
        yield
        return
    trl_utils._use_triton = lambda device: True
    try:
        yield
    finally:
        trl_utils._use_triton = decides


@contextmanager
def quiet() -> Iterator[None]:
    """Keep bars of datasets and TRL from the error stream, and warnings of names that TRL is to change."""
    before, shown = environ.get("TQDM_DISABLE"), not are_progress_bars_disabled()
    disable_progress_bars()
    environ["TQDM_DISABLE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*gradient_checkpointing.*is deprecated", FutureWarning)
            yield
    finally:
        environ.pop("TQDM_DISABLE")
        if before is not None:
            environ["TQDM_DISABLE"] = before
        if shown:
            enable_progress_bars()


def _arguments(recipe: PreferenceRecipe, steps: int, device: torch.device, bf16: bool) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "output_dir": str(recipe.run.folder),
        "beta": recipe.preference.beta,
        "max_length": None,
        "precompute_ref_log_probs": True,
        "router_aux_loss_coef": 0.0,
        "max_steps": steps,
        "per_device_train_batch_size": recipe.rows,
        "per_device_eval_batch_size": recipe.rows,
        "gradient_accumulation_steps": recipe.schedule.batch // recipe.rows,
        "max_grad_norm": recipe.optimizer.clip,
        "activation_checkpointing": recipe.compute.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": bf16,
        "use_cpu": device.type == "cpu",
        "seed": recipe.schedule.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would show the last good number in the place of none
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.type != "cpu",
    }
    if recipe.method == "kto":
        weights = recipe.preference.desirable_weight, recipe.preference.undesirable_weight
        usual |= {"desirable_weight": weights[0], "undesirable_weight": weights[1]}
    return usual
