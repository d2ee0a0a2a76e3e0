"""Adapters by name beside one base, of which one at a time, or none, is on."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from spellbound.errors import ModelError
from spellbound.jamba.lora.attach import adapters, detach_adapter, require_bare
from spellbound.jamba.lora.folder import AdapterFile, load_adapter, read_adapter
from spellbound.jamba.lora.layers import Adapted

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM


class TakenAdapter:
    """An adapter of a model that may be off: its modules and their places."""

    def __init__(self, model: "JambaForCausalLM", content: str) -> None:
        self.content = content
        self.base = model.adapter_base
        self.step: object = None
        """What was written down about the model with it, as `fused_step`."""
        self.places: list[tuple[nn.Module, str, Adapted]] = []
        for name, module in model.named_modules():
            if isinstance(module, Adapted):
                parent, _, leaf = name.rpartition(".")
                self.places.append((model.get_submodule(parent), leaf, module))


class AdapterSet:
    """What can be put on a model, quickly. Not for two threads at a time.

    The weights of the base are never touched, so taking an adapter off brings back exactly what was before.
    """

    def __init__(self, model: "JambaForCausalLM") -> None:
        """Take a model without an adapter; ModelError for another."""
        require_bare(model)
        self._model = model
        self._taken: dict[str, TakenAdapter] = {}
        self._bare_step: object = None
        self.on: str | None = None
        """The name of the one that is on."""

    def __contains__(self, name: object) -> bool:
        """Say whether there is an adapter of this name."""
        return name in self._taken

    @property
    def names(self) -> list[str]:
        """Of all adapters, in the order in which they came."""
        return list(self._taken)

    def content(self, name: str | None) -> str:
        """Return a hash of an adapter's numbers; nothing for the base. ModelError for an unknown name."""
        return "" if name is None else self._of(name).content

    def add(self, name: str, folder: Path) -> None:
        """Read an adapter from a folder, in place of one of that name. ModelError if it does not fit."""
        self.put(name, self.take(read_adapter(folder)))

    def take(self, adapter: AdapterFile) -> TakenAdapter:
        """Make an adapter ready to be worn; none is on then. ModelError if it does not fit."""
        self.wear(None)
        load_adapter(self._model, adapter)
        digest = hashlib.sha256()
        for place, lora in adapters(self._model).items():
            digest.update(f"{place} {lora.scale}".encode())
            for factor in (lora.lora_A, lora.lora_B):
                digest.update(factor.detach().float().cpu().numpy().tobytes())
        taken = TakenAdapter(self._model, digest.hexdigest()[:32])
        detach_adapter(self._model)
        for _, _, module in taken.places:
            module.eval()
        return taken

    def put(self, name: str, taken: TakenAdapter) -> None:
        """Give an adapter a name, in place of one that has it."""
        if self.on == name:
            self.wear(None)
        self._taken[name] = taken

    def remove(self, name: str) -> None:
        """Forget an adapter. ModelError for an unknown name."""
        self._of(name)
        if self.on == name:
            self.wear(None)
        del self._taken[name]

    def wear(self, name: str | None) -> None:
        """Put this adapter on, and the one that is on off; None: the bare model."""
        if name == self.on:
            return
        following = None if name is None else self._of(name)
        if self.on is None:
            self._bare_step = self._model.fused_step
        else:
            before = self._of(self.on)
            before.step = self._model.fused_step
            for parent, leaf, module in before.places:
                setattr(parent, leaf, module.base_layer)
        if following is not None:
            for parent, leaf, module in following.places:
                setattr(parent, leaf, module)
        self._model.adapter_base = None if following is None else following.base
        # What was written down about the model holds again when it is what it was.
        self._model.fused_step = self._bare_step if following is None else following.step
        self.on = name

    def _of(self, name: str) -> TakenAdapter:
        if name not in self._taken:
            known = ", ".join(self._taken) or "none"
            raise ModelError(f"there is no adapter {name!r}; there are: {known}")
        return self._taken[name]
