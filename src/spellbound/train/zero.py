"""DeepSpeed's ZeRO, if `accelerate launch` is configured for it: what it has to know, and its checkpoints.

It spreads the moments in a way of its own, so it writes them itself, beside our checkpoint and before it:
one that counts has both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from spellbound.jamba.feed_forward import SparseMoE
from spellbound.train.checkpoints import Snapshot, found, trained
from spellbound.train.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

FOLDER = "deepspeed"


def used(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed trains."""
    from accelerate import DistributedType

    return bool(accelerator.distributed_type == DistributedType.DEEPSPEED)


def make_ready(accelerator: Accelerator, model: nn.Module, recipe: Recipe) -> None:
    """Tell DeepSpeed what the recipe says, and which modules it has to gather as a whole."""
    from deepspeed.utils import set_z3_leaf_modules  # type: ignore[import-not-found]

    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    share = -(-recipe.schedule.batch // accelerator.num_processes)
    settings["train_micro_batch_size_per_gpu"] = min(recipe.compute.rows or share, share)
    settings["gradient_accumulation_steps"] = 1  # it would divide every loss by it; turns are ours
    settings["gradient_clipping"] = recipe.optimizer.clip
    if any(isinstance(module, SparseMoE) for module in model.modules()):
        # Processes meet different experts; gathered one by one they would wait for each other for ever.
        set_z3_leaf_modules(model, [SparseMoE])


def take(model: nn.Module) -> Snapshot:
    """What is trained, in one piece, without the moments; every process has to call this."""
    from deepspeed.utils import safe_get_full_fp32_param

    whole: dict[str, Tensor] = {
        name: safe_get_full_fp32_param(weight).to("cpu", copy=True) for name, weight in trained(model).items()
    }
    return Snapshot(whole, {})


def save(engine: Any, checkpoints: Path, step: int) -> None:
    """Let DeepSpeed write its part; every process has to call this."""
    engine.save_checkpoint(str(checkpoints / FOLDER), tag=_tag(step))


def remove_old(checkpoints: Path) -> None:
    """Remove DeepSpeed's part of checkpoints that are no more; for one process, after ours is written."""
    kept = {each.name for each in found(checkpoints)}
    for part in (checkpoints / FOLDER).glob("step-*"):
        if part.name not in kept:
            shutil.rmtree(part)


def load(engine: Any, checkpoints: Path, step: int) -> None:
    """Let DeepSpeed read its part, weights included."""
    engine.load_checkpoint(str(checkpoints / FOLDER), tag=_tag(step))


def _tag(step: int) -> str:
    return f"step-{step:08d}"
