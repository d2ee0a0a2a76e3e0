"""Snapshots on disk: a restart goes on from them, and what is broken counts as not there."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spellbound.engine import Disk, Engine, Request, SamplingParams, Snapshot, StoryCache
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM, Piece, new_sequence, read_together
from spellbound.jamba.sequence import PAGE
from tests.jamba.models import ours

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
STORY = [1, *(3 + number * 7 % 290 for number in range(2 * PAGE + 90))]

BARE = " "  # the space of requests that name neither adapter nor user


def engine_on(folder: Path, model: JambaForCausalLM, **limits: int) -> Engine:
    disk = Disk(folder, model, max_bytes=limits.get("disk", 1 << 30))
    return Engine(model, cache=StoryCache(max_bytes=limits.get("memory", 1 << 30), disk=disk))


def run(engine: Engine, ids: list[int], space: str = "") -> tuple[list[int], int]:
    generation = engine.generate(Request(prompt_ids=ids, params=GREEDY, space=space))
    return list(generation), generation.stats.reused_tokens


def files(folder: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{ending}.safetensors"))


def disk_of(engine: Engine) -> Disk:
    assert engine.cache.disk is not None
    return engine.cache.disk


@pytest.fixture
def cold(tiny_model: JambaForCausalLM) -> list[int]:
    return run(Engine(tiny_model), STORY)[0]


def test_after_a_restart_nothing_is_read_again(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int]
) -> None:
    first = engine_on(tmp_path, tiny_model)
    assert run(first, STORY) == (cold, 0)
    turn = [*STORY, *cold, 9, 8]
    going_on, _ = run(first, turn)
    first.close()
    assert len(files(tmp_path, ".page")) == 2  # shared by every snapshot behind them
    assert not list(tmp_path.rglob("*.tmp"))
    second = engine_on(tmp_path, tiny_model)
    assert run(second, STORY) == (cold, len(STORY))
    assert run(second, turn) == (going_on, len(turn))
    fork = [*STORY[:-5], 11, 12]
    assert run(second, fork)[0] == run(Engine(tiny_model), fork)[0]


def test_snapshots_read_back_share_their_pages_in_memory(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    first = engine_on(tmp_path, tiny_model)
    replies, _ = run(first, STORY)
    first.close()
    cache = engine_on(tmp_path, tiny_model).cache
    one, other = cache.find(STORY, BARE), cache.find([*STORY, *replies[:-1], 5], BARE)
    assert one.snapshot is not None
    assert other.snapshot is not None
    assert one.length < other.length
    for number in (0, 1):
        assert one.snapshot.state.pages[number] is other.snapshot.state.pages[number]


def test_what_two_have_read_apart_is_counted_whole_when_it_comes_back(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    states = [new_sequence(tiny_model) for _ in range(2)]
    long = [*STORY, *STORY]
    for state, ids in zip(states, (STORY, long), strict=True):  # the second finds the first one's pages there
        cache.put(ids, Snapshot(state, read_together(tiny_model, [Piece(ids, state)])[0]))
    cache.flush()
    cache.max_bytes = 1
    cache.put([5], Snapshot(new_sequence(tiny_model), None))
    cache.max_bytes = 1 << 40
    found = cache.find([*long, 5]).snapshot
    assert found is not None
    assert cache.find([*STORY, 5]).snapshot is not None
    pages = {page for node in cache.nodes() if node.snapshot for page in node.snapshot.state.pages}
    own = sum(node.snapshot.own_bytes for node in cache.nodes() if node.snapshot)
    assert cache.nbytes == own + sum(page.nbytes for page in pages)
    assert [page.before for page in found.state.pages] == [None, *found.state.pages[:-1]]


def test_what_leaves_memory_is_read_from_disk(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int]
) -> None:
    engine = engine_on(tmp_path, tiny_model, memory=0)
    run(engine, STORY)
    disk_of(engine).flush()
    assert len(engine.cache) == 0
    assert run(engine, STORY) == (cold, len(STORY))


@pytest.mark.parametrize("ending", [".state", ".page"])
@pytest.mark.parametrize("damage", ["half", "empty", "gone", "other"])
def test_a_broken_file_is_as_if_it_were_not_there(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int], ending: str, damage: str
) -> None:
    first = engine_on(tmp_path, tiny_model)
    run(first, STORY)
    first.close()
    for path in files(tmp_path, ending):
        content = path.read_bytes()
        if damage == "gone":
            path.unlink()
        elif damage == "other":
            path.write_bytes(content[:8] + content[8:].replace(b"spellbound-story", b"spellbound-diary"))
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    second = engine_on(tmp_path, tiny_model)
    assert run(second, STORY) == (cold, 0)
    second.close()
    assert run(engine_on(tmp_path, tiny_model), STORY) == (cold, len(STORY))  # written anew


def test_a_file_lost_while_we_run_costs_reading_again(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int]
) -> None:
    engine = engine_on(tmp_path, tiny_model, memory=0)
    run(engine, STORY)
    disk_of(engine).flush()
    for path in files(tmp_path, ".page"):
        path.unlink()
    assert run(engine, STORY)[0] == cold
    assert sum(disk_of(engine).failures.values()) > 0


def test_drafts_of_a_killed_process_are_swept_up(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    folder = Disk(tmp_path, tiny_model).folder
    old, new = folder / ".spellbound.1.tmp", folder / ".spellbound.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half a")
    os.utime(old, (1, 1))
    list(Disk(tmp_path, tiny_model).index())
    assert not old.exists()
    assert new.exists()  # perhaps of one that is being written


def test_another_model_s_and_another_user_s_are_never_met(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    first = engine_on(tmp_path, tiny_model)
    run(first, STORY, "anna")
    first.close()
    assert run(engine_on(tmp_path, tiny_model), STORY, "bert")[1] == 0
    assert run(engine_on(tmp_path, tiny_model), STORY, "anna")[1] == len(STORY)
    other = ours(vocab_size=320).eval()
    assert run(engine_on(tmp_path, other), STORY, "anna")[1] == 0
    assert all(b"anna" not in path.read_bytes() for path in files(tmp_path))


def test_it_keeps_to_its_bytes_on_disk(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    engine = engine_on(tmp_path, tiny_model)
    run(engine, STORY)
    disk_of(engine).flush()
    budget = disk_of(engine).nbytes * 5 // 4
    disk_of(engine).max_bytes = budget
    for first in range(20, 26):
        run(engine, [first, *STORY])
        disk_of(engine).flush()
        assert disk_of(engine).nbytes <= budget
    engine.close()
    assert sum(path.stat().st_size for path in files(tmp_path)) < 1.5 * budget  # and headers
    assert run(engine_on(tmp_path, tiny_model), [25, *STORY])[1] == len(STORY) + 1


def test_a_full_disk_costs_the_snapshot_and_nothing_else(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_on(tmp_path, tiny_model)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spellbound.engine.disk_files.save_file", full)
    assert run(engine, STORY)[0] == cold
    disk_of(engine).flush()
    assert not files(tmp_path)
    assert run(engine, STORY) == (cold, len(STORY))  # from memory
    assert sum(disk_of(engine).failures.values()) > 0
    monkeypatch.undo()
    turn = [*STORY, *cold, 9]
    run(engine, turn)
    engine.close()
    assert run(engine_on(tmp_path, tiny_model), turn)[1] == len(turn)  # once there is room again


def test_what_waits_to_be_written_is_there(
    tiny_model: JambaForCausalLM, tmp_path: Path, cold: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def slow(*arguments: Any, **named: Any) -> None:
        gate.wait()
        save_file(*arguments, **named)

    monkeypatch.setattr("spellbound.engine.disk_files.save_file", slow)
    engine = engine_on(tmp_path, tiny_model, memory=0)
    run(engine, STORY)
    assert run(engine, STORY) == (cold, len(STORY))
    gate.set()
    engine.close()
    assert run(engine_on(tmp_path, tiny_model), STORY) == (cold, len(STORY))


def test_another_process_that_looks_on_takes_nothing_away(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    engine = engine_on(tmp_path, tiny_model)
    run(engine, STORY)
    disk_of(engine).flush()
    for path in files(tmp_path, ".state"):
        path.unlink()  # as if pages were there and their snapshot not yet
    list(Disk(tmp_path, tiny_model).index())
    assert len(files(tmp_path, ".page")) == 2
    for path in files(tmp_path, ".page"):
        os.utime(path, (1, 1))
    list(Disk(tmp_path, tiny_model).index())
    assert not files(tmp_path, ".page")


def test_a_snapshot_gets_its_logits_when_they_come(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    first = engine_on(tmp_path, tiny_model)
    list(first.generate(Request(prompt_ids=STORY, params=GREEDY, boundaries=(50,))))
    run(first, STORY[:50])
    first.close()
    assert run(engine_on(tmp_path, tiny_model), STORY[:50])[1] == 50


def test_a_closed_disk_takes_nothing_and_a_dropped_one_frees_its_model(tmp_path: Path) -> None:
    model = killed_model()
    engine = engine_on(tmp_path, model)
    run(engine, STORY)
    disk_of(engine).close()
    disk_of(engine).close()
    run(engine, [9, *STORY])
    assert disk_of(engine).failures["refused"] > 0
    disk_of(engine).flush()
    gone = weakref.ref(model)
    del engine, model
    for _ in range(400):
        if gc.collect() >= 0 and gone() is None:
            break
        time.sleep(0.01)
    assert gone() is None


def test_a_folder_that_cannot_be_is_named(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        Disk(tmp_path / "file", tiny_model)
    with pytest.raises(InputError, match="-1 bytes"):
        Disk(tmp_path, tiny_model, max_bytes=-1)


def test_logits_come_back_as_they_were(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    first = engine_on(tmp_path, tiny_model)
    run(first, STORY)
    kept = first.cache.find(STORY, BARE).snapshot
    first.close()
    back = engine_on(tmp_path, tiny_model).cache.find(STORY, BARE).snapshot
    assert kept is not None
    assert back is not None
    assert kept.logits_V is not None
    assert back.logits_V is not None
    assert torch.equal(kept.logits_V, back.logits_V)
    for one, other in zip(kept.state.mamba, back.state.mamba, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.tensors(), other.tensors(), strict=True))


KILLED = """
import sys
from pathlib import Path
from spellbound.engine import Disk, Engine, Request, SamplingParams, Snapshot, StoryCache
from tests.engine.test_disk import STORY, killed_model

model = killed_model()
cache = StoryCache(disk=Disk(Path(sys.argv[1]), model))
engine = Engine(model, cache=cache)
for number in range(1000):
    list(engine.generate(Request(prompt_ids=[3 + number, *STORY], params=SamplingParams(max_tokens=2))))
    cache.disk.flush()
    print(number, flush=True)
"""


def killed_model() -> JambaForCausalLM:
    """The same weights in every process."""
    torch.manual_seed(5)
    model: JambaForCausalLM = ours(vocab_size=320).eval()
    return model


@pytest.mark.parametrize("saved", [1, 4])
def test_a_killed_process_leaves_what_it_said_was_saved(tmp_path: Path, saved: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(line) for _, line in zip(range(saved), process.stdout, strict=False)]
        process.kill()
    model = killed_model()
    engine = engine_on(tmp_path, model)
    for number in said:
        prompt = [3 + number, *STORY]
        assert run(engine, prompt) == (run(Engine(model), prompt)[0], len(prompt))
    assert said == list(range(saved))
