"""TRL as oracle: on its own batch, without packing, our loss and our adapters' gradients are its."""

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoTokenizer
from transformers import JambaForCausalLM as TransformersJamba

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import adapter_parameters, save_adapter
from spellbound.train.loss import weighted_nats
from tests.conftest import make_model
from tests.jamba.adapters import EXPERTS, LINEAR, adapted
from tests.jamba.models import relative_error

# Deprecations that TRL, PEFT and transformers see in one another.
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)

# Without a word to mypy about their types.
datasets: Any = importlib.import_module("datasets")
trl: Any = importlib.import_module("trl")

ROWS = [
    {"prompt": "Mara finds the harbour empty.", "completion": " A bell rang. She turned."},
    {"prompt": "Tom speaks.", "completion": ' <quote speaker="32AN4R">No.</quote> And that was all he said.'},
]
TARGETS = (*LINEAR, *EXPERTS, "router")


def trainer(model: Any, tokens: Any, folder: Path) -> Any:
    settings = trl.SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=len(ROWS),
        max_length=None,
        packing=False,
        router_aux_loss_coef=0.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = datasets.Dataset.from_list(ROWS)
        return trl.SFTTrainer(model, settings, train_dataset=rows, processing_class=tokens)


def our_loss(model: JambaForCausalLM, batch: dict[str, Tensor], at_once: int) -> Tensor:
    """The mean over all targets, as the loop divides it; the head reads so many positions at once."""
    labels = batch["labels"]
    targets = torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), -100)], 1)
    weights = torch.ones_like(targets, dtype=torch.float32)
    hidden = model.model(batch["input_ids"], None, None)
    return weighted_nats(model.lm_head, hidden, targets, weights, at_once) / (targets >= 0).sum()


def test_loss_and_gradients_are_those_of_trl(tiny_folder: Path, tmp_path: Path) -> None:
    model = adapted(make_model(), *TARGETS)
    save_adapter(model, tmp_path / "adapter", base_name=str(tiny_folder))
    theirs = PeftModel.from_pretrained(
        TransformersJamba.from_pretrained(tiny_folder), tmp_path / "adapter", is_trainable=True
    )
    loop = trainer(theirs, AutoTokenizer.from_pretrained(tiny_folder), tmp_path)
    batch = next(iter(loop.get_train_dataloader()))
    counted = (batch["labels"] != -100).sum()
    assert 40 < counted < batch["input_ids"].numel()
    loss = loop.compute_loss(loop.model, dict(batch), num_items_in_batch=counted)
    loss.backward()
    expected = {name: each.grad for name, each in theirs.named_parameters() if each.requires_grad}
    assert all(gradient.any() for gradient in expected.values())
    for at_once in (7, 10_000):
        model.zero_grad()
        ours = our_loss(model, batch, at_once)
        ours.backward()
        assert float(ours.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        found = {name: each.grad for name, each in adapter_parameters(model).items()}
        assert len(found) == len(expected)
        for name, gradient in found.items():
            assert gradient is not None
            assert relative_error(*in_their_layout(name, gradient, expected)) < 1e-5, name


def in_their_layout(name: str, gradient: Tensor, expected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Our gradient as PEFT lays factors out, and PEFT's own."""
    if gradient.dim() == 3:  # experts: PEFT wraps their second parameter round the first
        gradient = gradient.flatten(0, 1) if name.endswith("A") else gradient.permute(1, 2, 0).flatten(1)
        name = name.replace(".gate_up_proj", ".base_layer").replace("experts.down_proj", "experts")
    return gradient, expected[f"base_model.model.{name}.default.weight"]
