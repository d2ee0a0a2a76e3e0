"""What two processes do in test_sharded.py: train with FSDP2's shards, and leave what they got."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from spellbound.jamba import JambaForCausalLM
from spellbound.train import checkpoints
from spellbound.train.adapters import attach, save
from spellbound.train.batches import collate, shares
from spellbound.train.loss import Learner
from spellbound.train.recipe import AdapterSettings
from spellbound.train.rows import Order
from spellbound.train.tokens import read_tokens


def steps(model: JambaForCausalLM, tokens_folder: Path, count: int) -> torch.optim.Optimizer:
    """Take steps as the loop does, with whatever share of the rows is this process's."""
    torch.set_num_threads(1)
    many = distributed.get_world_size() if distributed.is_initialized() else 1
    rank = distributed.get_rank() if many > 1 else 0
    learner = Learner(model.train())
    if many > 1:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(learner)
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-3, fused=True)
    tokens = read_tokens(tokens_folder)
    order = Order(tokens, repeats=[1.0, 1.0], length=400, batching="packed", batch=3, seed=0)
    for step in range(count):
        _, rows = order.at(step)
        weight = tokens.weights(np.concatenate(rows))
        turns = shares(rows, rank=rank, processes=many, at_once=0)
        for part, counts in turns:
            batch = collate(tokens, part, pad_id=0, packed=True)
            batch = batch if counts else batch.muted()
            nats, _ = learner(
                batch.input_ids_BT, batch.documents_BT, batch.targets_BT, batch.weights_BT, batch.lengths_B
            )
            (nats / weight * many).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def work(base: Path, tokens: Path, folder: Path, lora: bool) -> None:
    """Train sharded, save whole; then put it back into a fresh sharded model and go on."""
    model = load(base, lora=lora)
    optimizer = steps(model, tokens, 2)
    assert any(isinstance(weight, DTensor) for weight in model.parameters())
    snapshot = checkpoints.take(model, optimizer)
    if distributed.get_rank() == 0:
        save_file(snapshot.parameters, folder / "parameters.safetensors")
        save_file(snapshot.moments, folder / "moments.safetensors")
        if lora:
            save(model, folder / "adapter", str(base), snapshot.parameters)
    fresh = load(base, lora=lora)
    other = steps(fresh, tokens, 0)
    checkpoints.put(snapshot, fresh, other, folder)
    again = checkpoints.take(fresh, other)
    for one, two in ((snapshot.parameters, again.parameters), (snapshot.moments, again.moments)):
        assert one.keys() == two.keys()
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def load(base: Path, *, lora: bool) -> JambaForCausalLM:
    """The tiny model, with adapters if wanted."""
    model: JambaForCausalLM = JambaForCausalLM.from_pretrained(base)
    if lora:
        attach(model, AdapterSettings(rank=2, targets=("in_proj", "q_proj", "down_proj", "router")), 0)
    return model
