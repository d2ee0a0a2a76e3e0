"""Checkpoints on disk: the last few, whole, and of this model."""

from pathlib import Path

import pytest
import torch

from spellbound.errors import InputError
from spellbound.train import checkpoints
from tests.jamba.models import ours


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = ours()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return model, optimizer


def test_the_last_few_are_kept_and_what_was_taken_is_put_back(tmp_path: Path) -> None:
    model, optimizer = trained()
    snapshot = checkpoints.take(model, optimizer)
    for step in (1, 9, 10, 100):
        checkpoints.write(tmp_path, step, snapshot, {"note": step}, keep=2)
    kept = checkpoints.found(tmp_path)
    assert [each.name for each in kept] == ["step-00000010", "step-00000100"]
    assert checkpoints.read_state(kept[-1])["note"] == 100
    fresh = ours(seed=5)
    other = torch.optim.AdamW(fresh.parameters(), lr=0.1, fused=True)
    checkpoints.put(checkpoints.read_snapshot(kept[-1]), fresh, other, kept[-1])
    for one, two in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two)
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, other.state[two][key])


def test_what_is_on_the_cpu_is_not_held_twice() -> None:
    model, optimizer = trained()
    snapshot = checkpoints.take(model, optimizer)
    for name, weight in model.named_parameters():
        assert snapshot.parameters[name].data_ptr() == weight.data_ptr()


def test_what_is_put_back_is_nobody_elses() -> None:
    model, optimizer = trained()
    snapshot = checkpoints.take(model, optimizer)
    before = {name: value.clone() for name, value in snapshot.moments.items()}
    fresh = ours(seed=5)
    other = torch.optim.AdamW(fresh.parameters(), lr=0.1, fused=True)
    checkpoints.put(snapshot, fresh, other, Path("there"))
    for weight in fresh.parameters():
        weight.grad = torch.ones_like(weight)
    other.step()
    assert all(torch.equal(snapshot.moments[name], value) for name, value in before.items())


def test_nothing_of_a_run_lies_in_the_checkpoint_it_goes_on_from(tmp_path: Path) -> None:
    model, optimizer = trained()
    place = checkpoints.write(tmp_path, 1, checkpoints.take(model, optimizer), {}, keep=1)
    fresh = ours(seed=5)
    other = torch.optim.AdamW(fresh.parameters(), lr=0.1, fused=True)
    checkpoints.put(checkpoints.read_snapshot(place), fresh, other, place)
    for file in place.glob("*.safetensors"):
        file.write_bytes(bytes(file.stat().st_size))
    wanted, found = checkpoints.take(model, optimizer), checkpoints.take(fresh, other)
    for one, two in ((wanted.parameters, found.parameters), (wanted.moments, found.moments)):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_one_of_another_model_is_refused() -> None:
    model, optimizer = trained()
    snapshot = checkpoints.take(model, optimizer)
    other = ours(num_hidden_layers=5)
    with pytest.raises(InputError, match=r"is of another model: 'model\.layers\.4"):
        checkpoints.put(snapshot, other, torch.optim.AdamW(other.parameters()), Path("there"))


def test_what_a_kill_left_is_removed_and_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints.write(tmp_path, 3, checkpoints.take(model, optimizer), {}, keep=1)
    remains = tmp_path / "step-00000007"  # of a removal that was cut off
    remains.mkdir()
    (remains / checkpoints.OPTIMIZER).write_text("half")
    assert [each.name for each in checkpoints.found(tmp_path)] == ["step-00000003"]
    checkpoints.write(tmp_path, 7, checkpoints.take(model, optimizer), {}, keep=2)
    checkpoints.read_snapshot(remains)
    assert [each.name for each in checkpoints.found(tmp_path)] == ["step-00000003", "step-00000007"]
    (remains / checkpoints.STATE).unlink()
    checkpoints.remove_remains(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["step-00000003"]
