import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.nano import loop, model, packing, training
from recipes.nano.packing import Rows, Sequence
from recipes.nano.progress import smoothed
from recipes.nano.schedule import Schedule
from spellbound.errors import InputError
from tests.recipes.conftest import micro

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    draw = np.random.default_rng(0)
    sequences = [
        Sequence(draw.integers(4, 60, size=size).astype(np.uint16), size // 3)
        for size in draw.integers(5, 40, size=60).tolist()
    ]
    folder = tmp_path_factory.mktemp("rows") / "rows"
    packing.write(folder, packing.pack(sequences, 48), 48, 0, {})
    return packing.read(folder)


def run(folder: Path, **changes: object) -> loop.Run:
    schedule = Schedule(steps=6, batch=4, rate=5e-3, seed=1)
    settings = {"log_every": 2, "valid_every": 4, **changes}
    return loop.Run(folder=folder, title="test", schedule=schedule, **settings)  # type: ignore[arg-type]


def steps_of(folder: Path) -> list[tuple[int, float | None, float | None]]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], entry.get("loss"), entry.get("valid")) for entry in entries]


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(rows: Rows, tmp_path: Path) -> None:
    whole = loop.Trainer(micro(), rows, rows, run(tmp_path / "whole"))
    whole.train()
    for seed, steps in ((0, 1), (7, 3), (8, None)):  # what a fresh model begins with must not matter
        broken = loop.Trainer(micro(seed), rows, rows, run(tmp_path / "broken"))
        broken.train(steps)
    assert broken.step == whole.step == 6
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, broken.model.state_dict()[name]), name
    assert steps_of(tmp_path / "broken") == steps_of(tmp_path / "whole")


def test_a_run_killed_after_its_checkpoint_loses_only_what_came_later(rows: Rows, tmp_path: Path) -> None:
    loop.Trainer(micro(), rows, rows, run(tmp_path / "whole")).train()
    killed = loop.Trainer(micro(), rows, rows, run(tmp_path / "killed"))
    killed.train(3)
    killed.take_step()
    killed.log.add(step=3, tokens=0, loss=-1.0)
    killed.log.write()
    loop.Trainer(micro(), rows, rows, run(tmp_path / "killed")).train()
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole")


def test_training_learns_and_leaves_log_curve_and_checkpoint(rows: Rows, tmp_path: Path) -> None:
    trainer = loop.Trainer(micro(), rows, rows, run(tmp_path, checkpoint_seconds=0.0))
    before = trainer.validate()
    trainer.train()
    assert trainer.validate() < before
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl", "log.png"]
    assert trainer.tokens == 6 * 4 * 48


def test_a_checkpoint_of_other_settings_is_refused(rows: Rows, tmp_path: Path) -> None:
    loop.Trainer(micro(), rows, None, run(tmp_path)).train(1)
    other = loop.Run(folder=tmp_path, title="test", schedule=Schedule(steps=9, batch=4, rate=5e-3, seed=1))
    with pytest.raises(InputError, match="steps 6 not 9"):
        loop.Trainer(micro(), rows, None, other)


def test_the_loss_is_the_models_own(rows: Rows) -> None:
    network, batch = micro(), rows.batch([0, 1, 2])
    loss = loop.packed_loss(network, batch)
    whole = network(batch["input_ids"], labels=batch["labels"], document_ids=batch["document_ids"]).loss
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    gradients = [
        torch.autograd.grad(one, list(network.parameters()), allow_unused=True) for one in (loss, whole)
    ]
    for found, wanted in zip(*gradients, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(rows: Rows, tmp_path: Path) -> None:
    network = micro()
    with torch.no_grad():
        network.model.final_layernorm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="loss nan at step 0"):
        loop.Trainer(network, rows, None, run(tmp_path)).take_step()


def test_measuring_speed_leaves_the_weights_alone(rows: Rows, tmp_path: Path) -> None:
    network, untouched = micro(), micro()
    assert loop.measured_speed(network, rows, run(tmp_path), trials=2) > 0
    for name, weight in untouched.state_dict().items():
        assert torch.equal(weight, network.state_dict()[name]), name


def test_a_missing_checkpoint_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m recipes\.nano\.pretrain"):
        loop.read_checkpoint(tmp_path / "pretrain")


def test_rate_rises_then_falls_to_the_floor() -> None:
    schedule = Schedule(steps=100, batch=1, rate=1.0, warmup=0.1, floor=0.05)
    rates = [schedule.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_every_row_comes_once_an_epoch_in_a_new_order() -> None:
    schedule = Schedule(steps=10, batch=3, rate=1.0, seed=5)
    order = [row for step in range(10) for row in schedule.rows_at(step, 7)]
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert order[:7] != order[7:14]


def test_beginning_is_a_function_of_the_seed_and_has_mambas_step_sizes() -> None:
    one, same, other = micro(3), micro(3), micro(4)
    name = "model.layers.0.mamba.in_proj.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    mixer = one.state_dict()
    steps = torch.nn.functional.softplus(mixer["model.layers.0.mamba.dt_proj.bias"])
    assert 1e-3 <= float(steps.min()) <= float(steps.max()) <= 1e-1 * 1.0001
    assert torch.allclose(mixer["model.layers.0.mamba.A_log"].exp()[0], torch.arange(1.0, 5.0))


def test_only_matrices_decay() -> None:
    network = micro()
    decayed, others = model.parameter_groups(network, 0.1)
    names = {id(weight): name for name, weight in network.named_parameters()}
    decayed_names = {names[id(weight)] for weight in decayed["params"]}  # type: ignore[attr-defined]
    other_names = {names[id(weight)] for weight in others["params"]}  # type: ignore[attr-defined]
    assert decayed_names.isdisjoint(other_names)
    assert decayed_names | other_names == set(names.values())
    assert "model.layers.1.feed_forward.experts.down_proj" in decayed_names
    assert {"model.layers.0.mamba.A_log", "model.layers.0.mamba.conv1d.weight"} <= other_names


def test_smoothing_has_no_pull_towards_zero() -> None:
    assert smoothed((3.0, 3.0, 3.0)) == pytest.approx([3.0, 3.0, 3.0])


TWO_PROCESSES = """
import sys
from pathlib import Path
from recipes.nano import packing, workers
from tests.recipes.test_training import three_steps

workers.run(three_steps, 2, packing.read(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def three_steps(rows: Rows, folder: Path) -> None:
    torch.set_num_threads(1)
    schedule = Schedule(steps=3, batch=4, rate=5e-3, seed=1)
    loop.Trainer(micro(), rows, None, loop.Run(folder=folder, title="test", schedule=schedule)).train()


def test_two_processes_learn_what_one_does(rows: Rows, tmp_path: Path) -> None:
    three_steps(rows, tmp_path / "one")
    folder = Path(str(rows.tokens.filename)).parent  # type: ignore[attr-defined]
    command = [sys.executable, "-c", TWO_PROCESSES, str(folder), str(tmp_path / "two")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    one, two = (loop.read_checkpoint(tmp_path / name)["model"] for name in ("one", "two"))
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], rtol=1e-3, atol=1e-5), name


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from recipes.nano import workers

def busy(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)

try:
    workers.run(busy, 2, sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
"""


def begun(folder: Path) -> subprocess.Popen[str]:
    """Two processes that would run for minutes, in a group of their own."""
    command = [sys.executable, "-c", INTERRUPTED, str(folder)]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(list(folder.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    return parent


def assert_nobody_left(folder: Path) -> None:
    for process in (int(path.name) for path in folder.iterdir()):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_an_interrupt_leaves_no_process_behind(tmp_path: Path) -> None:
    with begun(tmp_path) as parent:
        parent.send_signal(signal.SIGINT)
        assert parent.wait(60) == 130
    assert_nobody_left(tmp_path)


def test_a_killed_process_ends_the_others_and_is_named(tmp_path: Path) -> None:
    with begun(tmp_path) as parent:
        os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
        _, printed = parent.communicate(timeout=60)
    assert re.search(r"SpellboundError: process \d terminated with signal SIGKILL", printed)
    assert_nobody_left(tmp_path)


def test_a_damaged_checkpoint_says_so(rows: Rows, tmp_path: Path) -> None:
    loop.Trainer(micro(), rows, None, run(tmp_path)).train(1)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged; begin again with --fresh"):
            loop.read_checkpoint(tmp_path)


def test_rows_without_a_target_cost_nothing(rows: Rows) -> None:
    network, batch = micro(), rows.batch([0, 1])
    batch["labels"].fill_(packing.IGNORED)
    loss = loop.packed_loss(network, batch)
    loss.backward()
    assert loss.item() == 0.0
    assert all(weight.grad is not None and not weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": float("nan")}, "--rate nan: give a number above 0"),
        ({"rate": -1e-3}, "--rate -0.001"),
        ({"minutes": 0.0}, "--minutes 0.0"),
        ({"minutes": float("inf")}, "--minutes inf"),
        ({"batch": 0}, "--workers None, --batch 0"),
        ({"workers": 0}, "--workers 0, --batch 4"),
        ({"workers": 3}, "--workers 3, --batch 4: give a batch that is a multiple"),
    ],
)
def test_options_that_no_run_can_have(changes: dict[str, float], message: str, tmp_path: Path) -> None:
    usual = {"rate": 1e-3, "minutes": None, "batch": 4, "workers": None, "out": tmp_path, "fresh": False}
    with pytest.raises(InputError, match=re.escape(message)):
        training.train("pretrain", Namespace(**{**usual, **changes}), lambda network: None)


def test_any_number_of_cores_divides_the_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counts = []
    monkeypatch.setattr("recipes.nano.workers.run", lambda work, count, *rest: counts.append(count))
    options = Namespace(rate=1e-3, minutes=None, batch=16, workers=None, out=tmp_path, fresh=False)
    for cores in (1, 2, 3, 6, 12, 64):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        training.train("pretrain", options, lambda network: None)
    assert counts == [1, 2, 2, 4, 8, 16]
