"""Runs that are killed and go on: on the CPU they end bit for bit as if they had not been."""

import json
import multiprocessing
import multiprocessing.context
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spellbound.errors import EnvironmentFault, InputError, ModelError
from spellbound.train import checkpoints
from spellbound.train.launch import PRELOADED
from spellbound.train.log import LOG, Log, read_log
from spellbound.train.recipe_file import recipe_from
from spellbound.train.run import train
from tests.train.test_training import entries, run, say

Process = multiprocessing.context.ForkServerProcess


def begin(values: dict[str, Any], folder: Path, *, resume: bool) -> Process:
    """Start a run in a process of its own."""
    values["run"]["folder"] = str(folder)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(
        target=train, args=(recipe_from(values, "test"),), kwargs={"resume": resume, "say": say}
    )
    process.start()
    return process


def kill_when(process: Process, happened: Callable[[], bool]) -> None:
    """Kill a run as soon as something happened in its folder."""
    while not happened():
        assert process.is_alive(), "the run ended before it could be killed"
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def seen(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: bool(list(folder.glob(pattern)))


def logged(folder: Path) -> list[tuple[Any, ...]]:
    keys = ("step", "tokens", "loss", "norm", "rate", "valid")
    return [tuple(entry.get(key) for key in keys) for entry in entries(folder)]


def assert_equal(one: Path, other: Path, file: str = "model/model.safetensors") -> None:
    expected, found = load_file(one / file), load_file(other / file)
    assert expected.keys() == found.keys()
    assert all(bool((found[name] == value).all()) for name, value in expected.items())
    assert logged(one) == logged(other)


def test_a_run_killed_at_several_steps_ends_as_an_unbroken_one(
    values: dict[str, Any], tmp_path: Path
) -> None:
    whole, broken = run(values, tmp_path / "whole"), tmp_path / "broken"
    kill_when(begin(values, broken, resume=False), seen(broken, "checkpoints/step-00000001/state.json"))
    kill_when(begin(values, broken, resume=True), seen(broken, "checkpoints/step-00000004"))
    # While a checkpoint is being written: its draft has a file, its name is not there yet.
    kill_when(begin(values, broken, resume=True), seen(broken, "checkpoints/.spellbound.*.tmp/*.safetensors"))
    kill_when(begin(values, broken, resume=True), seen(broken, "checkpoints/step-00000006"))
    assert run(values, broken, resume=True) == broken
    assert_equal(whole, broken)
    assert not list((broken / "checkpoints").glob(".spellbound.*"))


def run_until_worker_killed(values: dict[str, Any], folder: Path, pattern: str, *, resume: bool) -> None:
    """Train with two processes, one of which is killed as soon as there is such a file."""
    values["run"]["folder"] = str(folder)
    before = set(multiprocessing.active_children())
    ended = threading.Event()

    def kill() -> None:
        while not list(folder.glob(pattern)) and not ended.wait(0.0005):
            pass
        for victim in list(set(multiprocessing.active_children()) - before)[:1]:
            victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(EnvironmentFault, match="SIGKILL; go on from the last checkpoint with --resume"):
            train(recipe_from(values, "test"), resume=resume, say=say)
    finally:
        ended.set()
        thread.join()
    assert set(multiprocessing.active_children()) <= before


def test_two_processes_one_of_which_is_killed_end_as_unbroken_ones(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values["run"]["processes"] = 2
    whole, broken = run(values, tmp_path / "whole"), tmp_path / "broken"
    run_until_worker_killed(values, broken, "checkpoints/step-00000002/state.json", resume=False)
    run_until_worker_killed(values, broken, "checkpoints/step-00000005", resume=True)
    run(values, broken, resume=True)
    assert_equal(whole, broken)


def test_workers_do_not_outlive_the_process_that_started_them(values: dict[str, Any], tmp_path: Path) -> None:
    values["run"] |= {"processes": 2, "log_every": 1}
    values["schedule"]["steps"] = 100_000
    folder = tmp_path / "run"
    kill_when(begin(values, folder, resume=False), seen(folder, "checkpoints/step-00000002"))
    deadline, size = time.monotonic() + 60, -1
    while size != (folder / "log.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        size = (folder / "log.jsonl").stat().st_size
        time.sleep(1.0)


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values["schedule"]["steps"] = 3
    values["run"]["checkpoint_steps"] = 0
    whole, broken = run(values, tmp_path / "whole"), tmp_path / "broken"
    kill_when(begin(values, broken, resume=False), seen(broken, "log.jsonl"))
    run(values, broken, resume=True)
    assert_equal(whole, broken)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_first(
    values: dict[str, Any], processes: int, number: signal.Signals
) -> None:
    values["run"] |= {"processes": processes, "checkpoint_steps": 0, "log_every": 1}
    values["schedule"]["steps"] = 100_000
    folder, given_up = Path(values["run"]["folder"]), threading.Event()

    def ask() -> None:
        while not (folder / "log.jsonl").is_file() or len(entries(folder)) < 3:
            if given_up.wait(0.001):
                return
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        with pytest.raises(SystemExit) as caught:
            train(recipe_from(values, "test"), resume=False, say=say)
    finally:
        given_up.set()
        thread.join()
    assert caught.value.code == 128 + number
    (checkpoint,) = checkpoints.found(folder / "checkpoints")
    assert checkpoints.read_state(checkpoint)["step"] == entries(folder)[-1]["step"]


def test_a_damaged_checkpoint_is_named(values: dict[str, Any]) -> None:
    values["schedule"]["steps"] = 2
    folder = run(values)
    for name in (checkpoints.OPTIMIZER, checkpoints.STATE):
        file = folder / "checkpoints/step-00000002" / name
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(
            InputError, match=r"step-00000002: is damaged .* remove it to go on from the one before"
        ):
            run(values, resume=True)


def test_a_run_goes_on_with_as_many_threads_as_it_began_with(values: dict[str, Any], tmp_path: Path) -> None:
    torch.set_num_threads(2)
    run(values, tmp_path / "run")
    torch.set_num_threads(1)
    run(values, tmp_path / "run", resume=True)
    assert torch.get_num_threads() == 2


def test_a_full_disk_leaves_the_checkpoint_before(values: dict[str, Any], tmp_path: Path) -> None:
    whole, broken = run(values, tmp_path / "whole"), tmp_path / "broken"
    kill_when(begin(values, broken, resume=False), seen(broken, "checkpoints/step-00000003"))
    before = [each.name for each in checkpoints.found(broken / "checkpoints")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(InputError, match=r"step-0000000\d: cannot be written: .*make room there"):
            run(values, broken, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in checkpoints.found(broken / "checkpoints")] == before
    assert not list((broken / "checkpoints").glob(".spellbound.*"))
    run(values, broken, resume=True)
    assert_equal(whole, broken)


def test_tensorboard_has_every_step_once(values: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    kill_when(begin(values, folder, resume=False), seen(folder, "checkpoints/step-00000005"))
    run(values, folder, resume=True)
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    for name, key in (("train/loss", "loss"), ("valid/loss", "valid")):
        told = [(event.step, pytest.approx(event.value, rel=1e-5)) for event in board.Scalars(name)]
        assert told == [(entry["step"], entry[key]) for entry in entries(folder) if key in entry]


def limited(size: int) -> tuple[int, int]:
    """Let no file grow beyond so many bytes; return the limits there were."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    return before


def test_a_full_disk_under_the_log_is_said_in_a_line(tmp_path: Path) -> None:
    with Log(tmp_path, 0, tensorboard=False) as log:
        log.add(1, loss=1.0)
    before = limited((tmp_path / LOG).stat().st_size + 20)
    try:
        with (
            pytest.raises(InputError, match=r"log\.jsonl: cannot be written: .*make room there"),
            Log(tmp_path, 1, tensorboard=False) as log,
        ):
            log.add(2, loss=0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry["step"] for entry in read_log(tmp_path)] == [1]


def test_a_full_disk_under_the_tokens_leaves_nothing_half_made(values: dict[str, Any]) -> None:
    before = limited(300)
    try:
        with pytest.raises(InputError, match=r"tokens.*: cannot be written: .*make room there"):
            run(values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((Path(values["run"]["folder"]) / "tokens").iterdir())
    values["schedule"]["steps"] = 1
    run(values)  # the folder still counts as one in which nothing has begun


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_full_disk_under_the_result_is_said_and_made_good(values: dict[str, Any], method: str) -> None:
    values |= {"method": method, "adapter": {"targets": ["q_proj"]}}
    values["schedule"]["steps"] = 2
    folder = run(values)
    (result,) = [folder / name for name in ("model", "adapter") if (folder / name).is_dir()]
    # Larger than the log and smaller than the tensors.
    before = limited(max((folder / LOG).stat().st_size, (folder / "recipe.toml").stat().st_size) + 100)
    try:
        with pytest.raises(InputError, match=r"run/.*: cannot be written: .*make room there"):
            run({**values, "run": {**values["run"], "tensorboard": False}}, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run(values, resume=True)
    assert result.is_dir()


def test_what_a_kill_left_half_written_is_removed(values: dict[str, Any]) -> None:
    values["schedule"]["steps"] = 1
    folder = Path(values["run"]["folder"])
    for place in ("", "tokens", "checkpoints"):
        draft = folder / place / ".spellbound.abc.tmp"
        draft.mkdir(parents=True)
        (draft / "ids.bin").write_bytes(b"half")
        (folder / place / ".spellbound.abd.tmp").write_bytes(b"half")
    run(values, resume=True)
    assert not list(folder.rglob(".spellbound.*"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_another_model_under_the_same_name_is_refused(
    values: dict[str, Any], tiny_folder: Path, tmp_path: Path, method: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    values |= {"method": method, "model": {"base": str(base)}}
    values["adapter"] = {"targets": ["q_proj"]}
    values["schedule"]["steps"] = 2
    run(values)
    run(values, resume=True)
    if method == "lora":
        weights = load_file(base / "model.safetensors")
        weights["model.final_layernorm.weight"] += 0.5
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    else:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}), encoding="utf-8")
    with pytest.raises(InputError, match="made with another model under the same name"):
        run(values, resume=True)


def test_a_start_that_fails_leaves_the_folder_free(values: dict[str, Any]) -> None:
    values |= {"method": "lora", "adapter": {"targets": ["w_proj"]}}
    values["schedule"]["steps"] = 2
    with pytest.raises(ModelError, match="w_proj"):
        run(values)
    values["adapter"]["targets"] = ["q_proj"]
    run(values)
