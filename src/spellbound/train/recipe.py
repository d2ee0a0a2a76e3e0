"""What a training run is told: one frozen class a table of the recipe, each refusing what no run can have."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spellbound.errors import InputError

Method = Literal["full", "lora"]
Precision = Literal["auto", "bf16", "fp32"]
Dtype = Literal["auto", "float32", "bfloat16"]
Overlong = Literal["error", "window", "drop"]
Batching = Literal["packed", "padded"]
Shape = Literal["cosine", "linear", "constant"]

USUAL_TARGETS = (
    "in_proj",
    "x_proj",
    "out_proj",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
"""What AI21 adapts in its own recipe for Jamba, the embeddings apart."""


_LONGEST = 1 << 24
_SEEDS = 1 << 63
"""From here on torch takes none."""
_MOST_RANK = 4096  # the hidden size of Jamba Mini: an adapter of more is a slip of the hand


def require(holds: bool, key: str, value: object, remedy: str) -> None:
    """Refuse a setting; InputError names it, its value and what to give instead."""
    if not holds:
        raise InputError(f"{key} is {value}; {remedy}")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Where the weights begin: a checkpoint, or random ones of a config's shape."""

    base: str = ""
    """Model folder, or a name on the hub. Empty: begin from `config`."""
    config: Path | None = None
    """A config.json of model type jamba, for random weights."""
    tokenizer: Path | None = None
    """Folder with the tokenizer and its chat template; that of `base` if not given."""
    seed: int = 0
    """Of the random weights."""
    dtype: Dtype = "auto"
    """Of the weights in memory; auto is float32 for what is trained in full, else bfloat16 on a GPU."""

    def __post_init__(self) -> None:
        """One beginning, not two and not none."""
        if bool(self.base) == (self.config is not None):
            raise InputError(
                f"model.base is {self.base!r} and model.config is {str(self.config or '')!r};"
                " give exactly one of them"
            )
        if self.config is not None and self.tokenizer is None:
            raise InputError("model.tokenizer is missing; a model that begins from model.config needs one")
        require(0 <= self.seed < _SEEDS, "model.seed", self.seed, "give a whole number from 0 below 2^63")


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Low-rank adaptation, used if method is lora."""

    rank: int = 8
    alpha: float = 16.0
    """The adapter's output is multiplied by alpha / rank."""
    dropout: float = 0.0
    targets: tuple[str, ...] = USUAL_TARGETS
    """Ends of the names of what is adapted; `spellbound train` prints what each one means."""

    def __post_init__(self) -> None:
        """Refuse what is no adapter."""
        require(1 <= self.rank <= _MOST_RANK, "adapter.rank", self.rank, f"give 1 to {_MOST_RANK:,}")
        require(self.alpha > 0, "adapter.alpha", self.alpha, "give a number above 0")
        require(0 <= self.dropout < 1, "adapter.dropout", self.dropout, "give a share from 0 to below 1")
        require(len(self.targets) > 0, "adapter.targets", [], "name at least one")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of examples or of documents, and how much of it an epoch has."""

    path: Path
    repeats: float = 1.0
    """How often each sample occurs in an epoch; 2.25 is twice, and a quarter of them, drawn anew, thrice."""
    weight: float = 1.0
    """How much each of its target tokens counts, on top of the examples' own weights."""

    def __post_init__(self) -> None:
        """Refuse what would make a source vanish."""
        require(self.repeats > 0, f"repeats of {self.path}", self.repeats, "give a number above 0")
        require(self.weight > 0, f"weight of {self.path}", self.weight, "give a number above 0")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learnt, and how it is laid into rows."""

    examples: tuple[Source, ...] = ()
    """Files of training examples: the completion is learnt, given the prompt."""
    text: tuple[Source, ...] = ()
    """Files of documents: all of their text is learnt."""
    validation: tuple[Source, ...] = ()
    """Files of examples that are only measured on."""
    validation_text: tuple[Source, ...] = ()
    """Files of documents that are only measured on."""
    held_out: int = 0
    """One document in so many, by a hash of its id, is never trained on and measured instead; 0 for none."""
    length: int = 4096
    """Tokens of the longest row."""
    overlong: Overlong = "error"
    """What becomes of an example longer than a row: refuse to start, cut it into windows, or leave it out."""
    overlong_text: Overlong = "window"
    """The same for documents."""
    batching: Batching = "packed"
    """Rows packed with whole samples that do not see one another, or a sample a row, of like lengths."""

    def __post_init__(self) -> None:
        """Something to learn, and room for it."""
        if not self.examples and not self.text:
            raise InputError("data.examples and data.text are both empty; name a file to learn from")
        require(8 <= self.length <= _LONGEST, "data.length", self.length, f"give 8 to {_LONGEST} tokens")
        require(self.held_out == 0 or self.held_out >= 2, "data.held_out", self.held_out, "give 0, 2 or more")


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """How long, how much at a time, how fast."""

    epochs: int = 1
    steps: int = 0
    """Optimizer steps; 0 for as many as the epochs have. If given, epochs follow one another until then."""
    batch: int = 2
    """Rows of one optimizer step, over all processes."""
    rate: float = 1e-5
    """Highest learning rate."""
    warmup: float = 0.03
    """Share of the steps in which the rate rises."""
    shape: Shape = "cosine"
    """How the rate falls afterwards."""
    floor: float = 0.0
    """Last rate as a share of the highest; not for constant."""
    seed: int = 0
    """Of the order of the data and of dropout."""

    def __post_init__(self) -> None:
        """Refuse a run of no steps."""
        require(self.epochs >= 1, "schedule.epochs", self.epochs, "give 1 or more")
        require(self.steps >= 0, "schedule.steps", self.steps, "give 0 for whole epochs, or how many")
        require(self.batch >= 1, "schedule.batch", self.batch, "give 1 or more")
        require(0 < self.rate < 1, "schedule.rate", self.rate, "give a number between 0 and 1")
        require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "give a share from 0 to below 1")
        require(0 <= self.floor <= 1, "schedule.floor", self.floor, "give a share from 0 to 1")
        require(0 <= self.seed < _SEEDS, "schedule.seed", self.seed, "give a whole number from 0 below 2^63")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW."""

    decay: float = 0.0
    """Weight decay of matrices; norms, biases, convolutions, A_log, D and dt_proj never decay."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    router_loss: float = 0.0
    """Factor of the loss that spreads tokens over experts; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse what AdamW cannot use."""
        require(self.decay >= 0, "optimizer.decay", self.decay, "give 0 or more")
        require(0 <= self.beta1 < 1, "optimizer.beta1", self.beta1, "give a number from 0 to below 1")
        require(0 <= self.beta2 < 1, "optimizer.beta2", self.beta2, "give a number from 0 to below 1")
        require(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "give a number above 0")
        require(self.clip >= 0, "optimizer.clip", self.clip, "give 0 for no limit, or the limit")
        require(self.router_loss >= 0, "optimizer.router_loss", self.router_loss, "give 0 or more")


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """How the arithmetic is done; changes the last digits of a result, or none."""

    precision: Precision = "auto"
    """Of matrix products; auto is bf16 where the device multiplies it natively."""
    gradient_checkpointing: bool = False
    """Compute each layer twice and keep only its input: far less memory, a third more time."""
    rows: int = 0
    """Rows that a process takes through the model at once; 0 for all of its share of a step."""
    head_tokens: int = 0
    """Target positions that the head reads at once; 0 for as many as make 256 MiB of logits."""

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        require(self.rows >= 0, "compute.rows", self.rows, "give 0 for all, or how many")
        require(self.head_tokens >= 0, "compute.head_tokens", self.head_tokens, "give 0, or how many")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where a run leaves things and how often; nothing here changes what is learnt."""

    folder: Path
    """The run's folder: tokens, checkpoints, log and result."""
    processes: int = 1
    """Processes of one thread each on this machine's CPU; 1 also under `accelerate launch`."""
    log_every: int = 10
    """Steps between entries of the log."""
    validate_every: int = 200
    """Steps between measurements on the validation rows; 0 for only at the end."""
    validate_rows: int = 64
    """Rows measured each time."""
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int = 0
    """Steps between checkpoints, besides those by the clock; 0 for none."""
    keep: int = 2
    """Last checkpoints that are kept."""
    tensorboard: bool = True
    samples: int = 2
    """Prompts that are continued before and after, for the report."""

    def __post_init__(self) -> None:
        """Refuse what cannot be counted."""
        require(self.processes >= 1, "run.processes", self.processes, "give 1 or more")
        require(self.log_every >= 1, "run.log_every", self.log_every, "give 1 or more")
        require(self.validate_every >= 0, "run.validate_every", self.validate_every, "give 0 or more")
        require(self.validate_rows >= 1, "run.validate_rows", self.validate_rows, "give 1 or more")
        require(self.checkpoint_minutes > 0, "run.checkpoint_minutes", self.checkpoint_minutes, "give more")
        require(self.checkpoint_steps >= 0, "run.checkpoint_steps", self.checkpoint_steps, "give 0 or more")
        require(self.keep >= 1, "run.keep", self.keep, "give 1 or more")
        require(self.samples >= 0, "run.samples", self.samples, "give 0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run. The recipe file has a table for each of these, and `method` above them."""

    method: Method = "full"
    model: ModelSettings
    data: DataSettings
    run: RunSettings
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
