"""The adapter of a run: its plan, whether all of it learns, and saving it in PEFT's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import LoraPlan, LoraSettings, adapter_parameters, attach_lora, save_adapter
from spellbound.train.recipe import AdapterSettings

STEPS = 2
"""Until then every adapter must have had a gradient: of the factor that begins at zero in the first step, of
the other one in the second."""


def attach(model: JambaForCausalLM, settings: AdapterSettings, seed: int) -> LoraPlan:
    """Freeze the model and put the recipe's adapters on it; ModelError for a target that matches nothing."""
    given = LoraSettings(
        rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout, targets=settings.targets
    )
    return attach_lora(model, given, seed)


class Watch:
    """Notes which adapters have had a gradient."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self._seen: set[str] = set()

    def look(self, model: nn.Module) -> None:
        """Note what has a gradient now, between the backward pass and the optimizer's step."""
        for name, weight in adapter_parameters(model).items():
            gradient = weight.grad
            if gradient is None or name in self._seen:
                continue
            whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
            if bool(whole.any()):
                self._seen.add(name)

    def require_all(self, model: nn.Module) -> None:
        """Raise InputError if some adapter has never had a gradient."""
        silent = [name for name in adapter_parameters(model) if name not in self._seen]
        if silent:
            raise InputError(
                f"adapter.targets: {len(silent)} factors had no gradient in {STEPS} steps, the first is"
                f" {silent[0]!r}; they would never learn, take them from adapter.targets"
            )


def save(model: JambaForCausalLM, folder: Path, base: str, trained: Mapping[str, Tensor]) -> None:
    """Save the adapter; `trained` has its values by parameter name, whole where the model has shards."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    tensors = {key: trained[names[id(weight)]] for key, weight in adapter_parameters(model).items()}
    save_adapter(model, folder, base_name=base, tensors=tensors)
