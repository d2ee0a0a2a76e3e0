"""What `spellbound prefer` is told: one frozen class a table, each refusing what no run can have."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spellbound.errors import InputError
from spellbound.train.recipe import (
    AdapterSettings,
    ModelSettings,
    OptimizerSettings,
    Precision,
    ScheduleSettings,
    require,
)

PreferenceMethod = Literal["dpo", "kto"]
Overlong = Literal["error", "drop"]


@dataclass(frozen=True, kw_only=True)
class PreferenceData:
    """What is compared."""

    pairs: tuple[Path, ...] = ()
    """Files of pairs, for dpo."""
    thumbs: tuple[Path, ...] = ()
    """Files of thumbs, for kto."""
    validation: tuple[Path, ...] = ()
    """Files of the same kind that are only measured on, at the end."""
    length: int = 4096
    """Tokens of the longest row: prompt, output and its end."""
    overlong: Overlong = "error"
    """What becomes of a longer one: refuse to start, or leave it out. Nothing is ever cut."""

    def __post_init__(self) -> None:
        """Something to compare, of one kind."""
        if bool(self.pairs) == bool(self.thumbs):
            raise InputError(
                f"data.pairs names {len(self.pairs)} files and data.thumbs {len(self.thumbs)};"
                " give pairs for dpo or thumbs for kto"
            )
        require(self.length >= 8, "data.length", self.length, "give 8 tokens or more")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """How far the model may go from where it began, and what the two kinds of rows weigh."""

    beta: float = 0.1
    """The higher, the nearer the model stays to what it was."""
    desirable_weight: float = 1.0
    """Of good rows, for kto."""
    undesirable_weight: float = 1.0
    """Of bad rows, for kto."""

    def __post_init__(self) -> None:
        """Refuse what makes no loss."""
        require(self.beta > 0, "preference.beta", self.beta, "give a number above 0")
        for name in ("desirable_weight", "undesirable_weight"):
            value = getattr(self, name)
            require(value > 0, f"preference.{name}", value, "give a number above 0")


@dataclass(frozen=True, kw_only=True)
class PreferenceSchedule(ScheduleSettings):
    """How long, how much at a time, how fast: larger batches than for examples, and more slowly."""

    batch: int = 8
    """Pairs or thumbs of one update."""
    rate: float = 5e-6
    warmup: float = 0.1


@dataclass(frozen=True, kw_only=True)
class PreferenceCompute:
    """How the arithmetic is done."""

    precision: Precision = "auto"
    """Of matrix products; auto is bf16 where the device multiplies it natively."""
    gradient_checkpointing: bool = False
    """Compute each layer twice and keep only its input: far less memory, a third more time."""
    rows: int = 0
    """Rows that go through the model at once, a pair being one; 0 for all of a step."""

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        require(self.rows >= 0, "compute.rows", self.rows, "give 0 for all, or how many")


@dataclass(frozen=True, kw_only=True)
class PreferenceRun:
    """Where a run leaves things."""

    folder: Path
    """The run's folder: recipe, log, adapter."""
    tensorboard: bool = True


@dataclass(frozen=True, kw_only=True)
class PreferenceRecipe:
    """A whole run. The recipe file has a table for most of these, and `method` and `start` above them."""

    method: PreferenceMethod
    start: Path | None = None
    """An adapter to go on from, and to be compared with; without one, a new adapter on the model as it is."""
    model: ModelSettings
    data: PreferenceData
    run: PreferenceRun
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    preference: LossSettings = field(default_factory=LossSettings)
    schedule: PreferenceSchedule = field(default_factory=PreferenceSchedule)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    compute: PreferenceCompute = field(default_factory=PreferenceCompute)

    def __post_init__(self) -> None:
        """Refuse tables that contradict one another, or ask for what is not done here."""
        if self.method == "dpo" and not self.data.pairs:
            raise InputError("method is dpo and data.pairs is empty; name files of pairs, or give kto")
        if self.method == "kto" and not self.data.thumbs:
            raise InputError("method is kto and data.thumbs is empty; name files of thumbs, or give dpo")
        require(
            bool(self.model.base), "model.base", "''", "give a folder: preferences need a model that writes"
        )
        require(
            self.adapter.dropout == 0,
            "adapter.dropout",
            self.adapter.dropout,
            "give 0: the model is compared with itself, and dropout would be noise",
        )
        require(
            self.optimizer.router_loss == 0, "optimizer.router_loss", self.optimizer.router_loss, "give 0"
        )
        if self.start is not None and self.adapter != AdapterSettings():
            raise InputError(
                f"start is {self.start} and the table adapter is given too; an adapter keeps its rank and"
                " targets, so take the table out"
            )
        batch, rows = self.schedule.batch, self.rows
        require(batch % rows == 0, "compute.rows", rows, f"give a divisor of schedule.batch, {batch}")
        require(self.method == "dpo" or rows > 1, "rows at once", rows, "kto compares rows: give 2 or more")

    @property
    def rows(self) -> int:
        """Rows that go through the model at once."""
        return self.compute.rows or self.schedule.batch
