"""The model below an adapter, as its folder stores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM
    from spellbound.jamba.lora import LoraPlan


def open_base(name: str) -> tuple[Path, JambaForCausalLM]:
    """Load a model, by name or folder, on the CPU in the number format it is stored in; return both."""
    from transformers.utils import logging

    from spellbound.engine import load_model
    from spellbound.story.models import find_model

    logging.disable_progress_bar()
    folder = find_model(name)
    return folder, load_model(folder, device="cpu", dtype=_stored_dtype(folder))


def put_on(model: JambaForCausalLM, adapter: Path) -> LoraPlan:
    """Load an adapter onto a model; say so on the error stream if it was trained on other weights."""
    import typer

    from spellbound.cli.controls import one_line
    from spellbound.jamba.lora import load_adapter
    from spellbound.jamba.lora.attach import base_fingerprint

    here = base_fingerprint(model)
    plan = load_adapter(model, adapter)
    if here is not None and model.adapter_base != here:
        typer.echo(one_line(f"spellbound: {adapter}: was trained on other weights than these"), err=True)
    return plan


def _stored_dtype(folder: Path) -> str:
    """Return the number format that config.json names; auto where it names none that we load."""
    from spellbound.engine.loading import DTYPES

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "auto"  # load_model says what is wrong
    named = config.get("dtype") or config.get("torch_dtype") if isinstance(config, dict) else None
    return named if named in DTYPES else "auto"
