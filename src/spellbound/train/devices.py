"""Accelerate behind few calls: one process, DDP, FSDP2 or DeepSpeed, as its own configuration says."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from spellbound.errors import EnvironmentFault, InputError
from spellbound.jamba.linear import describe_bf16
from spellbound.train.recipe import ComputeSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(hours=12)  # the others wait while one process makes the tokens


def new_accelerator(settings: ComputeSettings) -> Accelerator:
    """Make an Accelerator for the processes that there are.

    Raises EnvironmentFault if accelerate is not installed, InputError for what the device cannot do.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
    except ImportError as error:
        raise EnvironmentFault("accelerate is not installed; run: pip install 'spellbound[train]'") from error
    # What another training in this process left would hold us to its precision.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    cpu = not torch.cuda.is_available()
    if cpu and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise InputError(
            "accelerate's configuration asks for FSDP, and there is no GPU: each process would hold the whole"
            " model without a word; start with run.processes instead"
        )
    return Accelerator(
        mixed_precision="bf16" if uses_bf16(settings, "cpu" if cpu else "cuda") else "no",
        cpu=cpu,
        # Said outright, for else a number in the environment would divide every loss.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        step_scheduler_with_optimizer=False,
    )


def uses_bf16(settings: ComputeSettings, device: str) -> bool:
    """Whether matrix products are bfloat16."""
    has = torch.cuda.is_bf16_supported() if device == "cuda" else describe_bf16().native
    if settings.precision == "bf16" and device == "cuda" and not has:
        raise InputError("compute.precision is bf16, which this GPU lacks; give fp32")
    return settings.precision == "bf16" or (settings.precision == "auto" and has)


def summed(accelerator: Accelerator, values: list[float]) -> list[float]:
    """Add up numbers over all processes."""
    if accelerator.num_processes == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    told: list[float] = total.tolist()
    return told


def one_piece(accelerator: Accelerator) -> bool:
    """Whether this process has all of the weights, and not a share of them."""
    from accelerate import DistributedType

    return accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def inner(accelerator: Accelerator, learner: Any) -> Any:
    """The model within what Accelerate made of it."""
    return accelerator.unwrap_model(learner).model
