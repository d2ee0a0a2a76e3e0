"""Everything about an adapter beside a model, without putting it on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spellbound.jamba.lora.attach import base_fingerprint, require_bare
from spellbound.jamba.lora.folder import read_adapter
from spellbound.jamba.lora.matching import Fit
from spellbound.jamba.lora.plan import LoraPlan, plan_of
from spellbound.jamba.lora.sites import find_sites

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """A tensor of an adapter: where it belongs (None: nowhere), its shape, Euclidean ``norm``, whether all
    of it is finite."""

    name: str
    weight: str | None
    shape: tuple[int, ...]
    norm: float
    finite: bool


@dataclass(frozen=True, kw_only=True)
class AdapterReport:
    """An adapter beside a model: ``tensors``, what ``plan`` of adapters they make, every fault, and whether
    the model's weights are those it was trained on."""

    tensors: tuple[TensorReport, ...]
    plan: LoraPlan
    faults: tuple[str, ...]
    base: Literal["same", "another", "unknown"]


def inspect_adapter(model: "JambaForCausalLM", folder: Path) -> AdapterReport:
    """Look at every tensor of an adapter. Raises ModelError where there is none, or the model has one on."""
    require_bare(model)
    adapter = read_adapter(folder)
    fit = Fit.of(model, find_sites(model), adapter.config, adapter.tensors)
    tensors = tuple(
        TensorReport(
            name=name,
            weight=fit.homes.get(name),
            shape=tuple(tensor.shape),
            norm=float(tensor.float().norm()),
            finite=bool(tensor.isfinite().all()),
        )
        for name, tensor in sorted(adapter.tensors.items())
    )
    here = base_fingerprint(model)
    known = adapter.base is not None and here is not None
    return AdapterReport(
        tensors=tensors,
        plan=plan_of(model, [(factors.site, factors.rank) for factors in fit.factors]),
        faults=tuple(fit.faults),
        base="unknown" if not known else "same" if adapter.base == here else "another",
    )
