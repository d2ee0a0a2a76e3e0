"""Weights and the files that they come from and go to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from torch import nn


@contextmanager
def storing() -> Iterator[None]:
    """Within it a file of tensors that cannot be written raises OSError, as any other file does."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(None, str(error)) from error


@torch.no_grad()
def let_go_of_files(model: nn.Module) -> None:
    """Copy the weights on the CPU that safetensors mapped from a file, so that nothing holds it any more.

    Where a few weights are mapped the whole file counts as this process's memory, also what was converted and
    is held anew; and whoever writes over the file ends the process.
    """
    for weight in model.parameters():
        # What torch has not allocated itself it cannot resize either.
        if weight.device.type == "cpu" and not weight.untyped_storage().resizable():
            weight.data = weight.data.clone()
