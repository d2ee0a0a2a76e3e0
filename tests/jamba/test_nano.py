"""The bundled weights mean the same to transformers' own class, as their card says."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer
from transformers import JambaForCausalLM as TransformersJamba

from spellbound.jamba import JambaForCausalLM
from tests.jamba.models import relative_error

NANO = Path(__file__).parents[2] / "models/nano"


@pytest.mark.skipif(
    not (NANO / "model.safetensors").is_file(), reason="no bundled model in models/nano; use a complete clone"
)
def test_nano_in_transformers() -> None:
    ids = AutoTokenizer.from_pretrained(NANO)(
        "Mara lifted the lantern and went out.", return_tensors="pt"
    ).input_ids
    mine = JambaForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    theirs = TransformersJamba.from_pretrained(NANO, dtype=torch.float32).eval()
    with torch.no_grad():
        assert relative_error(mine(ids).logits, theirs(ids).logits) < 1e-5
    assert sum(weight.numel() for weight in mine.parameters()) <= 20_000_000
