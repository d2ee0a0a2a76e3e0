"""What `spellbound plan` does: a recipe, its config and its data's lengths into a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import JambaConfig

from spellbound.errors import EnvironmentFault, InputError, ModelError
from spellbound.train.dataset import Progress
from spellbound.train.plan.hardware import EFFICIENCY, card, this_device
from spellbound.train.plan.loads import counted, estimated
from spellbound.train.plan.memory import Sharding, Spread
from spellbound.train.plan.planning import Plan, formats_of, make_plan
from spellbound.train.plan.rehearsal import rehearsed
from spellbound.train.plan.saved import Step
from spellbound.train.plan.shape import shape_of
from spellbound.train.plan.work import Load
from spellbound.train.prepared import order_of, prepared
from spellbound.train.recipe import ModelSettings, Recipe
from spellbound.train.start import read_config

THIS = "this"
_SHARDINGS: dict[str, Sharding] = {"none": "none", "fsdp": "fsdp"}


@dataclass(frozen=True, kw_only=True)
class Question:
    """For which devices and how much data a plan is wanted."""

    device: str = THIS
    """`this`, or a named card."""
    devices: int = 1
    sharding: str = "none"
    memory: float | None = None
    """GiB of one device, in place of the stated ones."""
    efficiency: float = EFFICIENCY
    config: Path | None = None
    """config.json, where the model is not here."""
    length: int | None = None
    """Tokens of every row; None: the recipe's data is read."""
    tokens: int = 10_000_000
    targets: float = 0.25
    """Share of the tokens that is learnt; these two only with `length`."""

    def __post_init__(self) -> None:
        """Refuse what no machine can be."""
        if self.devices < 1:
            raise InputError(f"devices is {self.devices}; give 1 or more")
        if self.sharding not in _SHARDINGS:
            raise InputError(f"sharding is {self.sharding!r}; give one of: {', '.join(_SHARDINGS)}")
        if self.memory is not None and self.memory <= 0:
            raise InputError(f"memory is {self.memory} GiB; give a number above 0")


def foresee(recipe: Recipe, question: Question, progress: Progress = lambda name, read: None) -> Plan:
    """Make the plan; of the model only config.json is read.

    Raises InputError for data that is not there, ModelError for a config or targets that cannot be used.
    """
    config = config_of(recipe.model, question.config)
    shape = shape_of(config, recipe)
    reading = _reading(recipe, question, progress)
    if question.device == THIS:
        formats = formats_of(recipe, gpu=this_device().gpu)
        step, _, turns = reading
        device = this_device(shape, formats)
        if question.sharding == "none":
            device = rehearsed(recipe, config, shape, formats, device, step, turns)
    else:
        device = card(question.device, question.efficiency)
    if question.memory is not None:
        device = replace(device, memory=question.memory * 2**30)
    spread = Spread(devices=question.devices, sharding=_SHARDINGS[question.sharding])
    return make_plan(recipe, shape, device, spread, reading)


def config_of(settings: ModelSettings, given: Path | None) -> JambaConfig:
    """The config of a recipe's model, or the one given; from the hub that file alone is fetched."""
    if given is not None:
        return read_config(ModelSettings(config=given, tokenizer=given.parent), None)
    if not settings.base or Path(settings.base).is_dir():
        return read_config(settings, Path(settings.base) if settings.base else None)
    try:
        return read_config(settings, Path(hf_hub_download(settings.base, "config.json")).parent)
    except (HFValidationError, HfHubHTTPError) as error:
        raise ModelError(
            f"model.base {settings.base!r} is neither a folder nor a model on the hub; give one of them"
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise EnvironmentFault(
            f"model.base {settings.base!r}: the hub cannot be reached; give --config FILE, or run:"
            f" hf download {settings.base} config.json"
        ) from error


def _reading(recipe: Recipe, question: Question, progress: Progress) -> tuple[Step, Load, int]:
    if question.length is not None:
        return estimated(
            recipe,
            length=question.length,
            tokens=question.tokens,
            share=question.targets,
            devices=question.devices,
        )
    if recipe.model.base and not Path(recipe.model.base).is_dir():
        raise InputError(
            f"model.base {recipe.model.base!r} is not here, so the data cannot be tokenised; give --length"
        )
    _, dataset = prepared(recipe, progress)
    return counted(recipe, order_of(recipe, dataset), dataset, question.devices)
