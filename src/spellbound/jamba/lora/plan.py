"""The plan of a LoRA: every adapter with its shape and size, before anything is changed."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spellbound.jamba.lora.settings import LoraSettings
from spellbound.jamba.lora.sites import Kind, Site, choose_sites

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM


@dataclass(frozen=True, kw_only=True)
class LoraRow:
    """One adapter: on which weight, of which kind and ``shape``, of which ``rank``, how many numbers."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    rank: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class LoraPlan:
    """All adapters of a model. ``total`` numbers are trained, ``share`` of the ``model``'s own."""

    rows: tuple[LoraRow, ...]
    model: int

    @property
    def total(self) -> int:
        """How many numbers are trained."""
        return sum(row.parameters for row in self.rows)

    @property
    def share(self) -> float:
        """How many that is for each number of the model."""
        return self.total / self.model

    def lines(self) -> list[str]:
        """Say it for people: one line for all adapters that are alike, one for the whole."""
        alike = Counter((_short(row), row.kind, row.shape, row.rank, row.parameters) for row in self.rows)
        lines = [
            f"{name:28} {kind:9} {count:4} x {_times(shape):18} rank {rank:<4} {count * numbers:>14,}"
            for (name, kind, shape, rank, numbers), count in alike.items()
        ]
        whole = f"{len(self.rows)} adapters, {self.total:,} numbers, {self.share:.3%} of {self.model:,}"
        return [*lines, whole]


def plan_lora(model: "JambaForCausalLM", settings: LoraSettings) -> LoraPlan:
    """Say what :func:`attach_lora` would train; nothing is changed, and weights may be on the meta device.

    Raises:
        ModelError: a target that matches nothing; the message names it and the names there are.
    """
    chosen = choose_sites(model, settings.targets)
    return plan_of(model, [(site, settings.rank) for site in chosen])


def plan_of(model: "JambaForCausalLM", sites: list[tuple[Site, int]]) -> LoraPlan:
    """Return the plan of adapters of given ranks on a model without any."""
    rows = tuple(
        LoraRow(
            name=site.name,
            kind=site.kind,
            shape=site.shape,
            rank=rank,
            parameters=site.parameters(rank),
        )
        for site, rank in sites
    )
    return LoraPlan(rows=rows, model=model.num_parameters())


def _short(row: LoraRow) -> str:
    """The last two parts of the name, which tell dense layers from experts."""
    return ".".join(row.name.split(".")[-2:])


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
