"""Where models are found: a folder, or the name of one that comes with Spellbound."""

import os
from pathlib import Path

from spellbound.errors import ModelError

FOLDER_VARIABLE = "SPELLBOUND_MODELS"


def models_folder() -> Path:
    """Return the folder of named models: SPELLBOUND_MODELS, else `models` in this repository."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path(__file__).resolve().parents[3] / "models"


def find_model(model: str) -> Path:
    """Return the folder of a model given by name (`nano`) or by path."""
    named = models_folder() / model
    if Path(model).name == model and (named / "config.json").is_file():
        return named
    if Path(model).is_dir():
        return Path(model)
    raise ModelError(
        f"model {model!r} is not a folder and not in {models_folder()}; give the folder of a Jamba"
        f" checkpoint, or set {FOLDER_VARIABLE} to the folder that holds {model}"
    )
