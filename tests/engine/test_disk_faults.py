"""A cache on disk that is full, damaged, shared or not readable costs reading again, and says so."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from spellbound.engine import Disk, Engine, Snapshot, StoryCache
from spellbound.engine.disk_files import read, write
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM, Piece, new_sequence, read_together
from spellbound.jamba.sequence import PAGE
from spellbound.server.metrics import Metrics
from spellbound.story.completion import CompletionOptions, EngineSettings, completed
from spellbound.story.local import LocalGenerator
from tests.engine.test_disk import BARE, STORY, disk_of, engine_on, files, run


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def headers(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as stored:
        told: dict[str, str] = stored.metadata()
    return told


def put(cache: StoryCache, ids: list[int], model: JambaForCausalLM) -> None:
    state = new_sequence(model)
    (logits,) = read_together(model, [Piece(ids, state)])
    cache.put(ids, Snapshot(state, logits), BARE)


# ---- not to be written


def test_what_cannot_be_written_is_logged_once_and_not_counted_as_there(
    tiny_model: JambaForCausalLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("spellbound.engine.disk_files.save_file", full)
    engine = engine_on(tmp_path, tiny_model)
    run(engine, STORY)
    disk_of(engine).flush()
    assert disk_of(engine).nbytes == 0  # before anything else is saved
    run(engine, [*STORY, 5])
    disk_of(engine).flush()
    assert disk_of(engine).failures["write"] >= 4
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    said = record.getMessage()
    assert f"{disk_of(engine).folder}: cannot be written: no space left on device; make room there" in said
    monkeypatch.undo()
    run(engine, [*STORY, 6])
    disk_of(engine).flush()
    assert disk_of(engine).nbytes > 0


def test_metrics_tell_what_the_cache_could_not_do(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spellbound.engine.disk_files.save_file", full)
    local = LocalGenerator(tiny_folder, settings=EngineSettings(cache_folder=tmp_path))
    list(completed(local, "Once", CompletionOptions(max_tokens=2)))
    local.engine.cache.flush()
    told = Metrics({"m": local}).text().decode()
    local.close()
    assert local.load.cache_failures["write"] > 0
    assert 'spellbound_cache_bytes{model="m",place="disk"} 0.0' in told
    assert 'spellbound_cache_failures_total{kind="write",model="m"} 0.0' not in told
    for kind in ("write", "read", "damaged", "gone", "refused", "unkept"):
        assert f'spellbound_cache_failures_total{{kind="{kind}",model="m"}}' in told


def test_a_folder_where_nothing_can_be_written_is_refused(
    tiny_model: JambaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(InputError, match=f"^{tmp_path}.*: cannot be written: read-only file system; "):
        Disk(tmp_path, tiny_model)


def test_on_a_full_disk_it_begins_with_what_is_there(
    tiny_model: JambaForCausalLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    put(cache, STORY, tiny_model)
    cache.close()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert engine_on(tmp_path, tiny_model).cache.find(STORY, BARE).length == len(STORY)
    assert "cannot be written: no space left on device" in caplog.text


def test_a_disk_that_fails_lets_memory_keep_its_budget(
    tiny_model: JambaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    put(cache, STORY, tiny_model)
    cache.max_bytes = cache.nbytes

    def sick(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache.disk, "save", sick)
    for first in range(3, 9):
        with pytest.raises(OSError, match="Input/output"):
            put(cache, [first, *STORY], tiny_model)
        assert cache.nbytes <= cache.max_bytes


# ---- damaged


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_a_snapshot_comes_back_wherever_it_ends(
    tiny_model: JambaForCausalLM, tmp_path: Path, length: int
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    put(cache, STORY[:length], tiny_model)
    cache.close()
    assert engine_on(tmp_path, tiny_model).cache.find(STORY[:length], BARE).length == length


@pytest.mark.parametrize("ending", [".state", ".page"])
@pytest.mark.parametrize("place", ["header", "first", "last"])
def test_flipped_bits_are_found(
    tiny_model: JambaForCausalLM, tmp_path: Path, ending: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = engine_on(tmp_path, tiny_model)
    cold, _ = run(first, STORY)
    first.close()
    for path in files(tmp_path, ending):
        content = bytearray(path.read_bytes())
        begin = 8 + int.from_bytes(content[:8], "little")
        at = {"header": content.index(b'"space":"') + 12, "first": begin, "last": len(content) - 1}[place]
        content[at] ^= 1
        path.write_bytes(content)
    second = engine_on(tmp_path, tiny_model)
    assert run(second, STORY) == (cold, 0)
    assert disk_of(second).failures["damaged"] > 0
    assert "damaged, and removed" in caplog.text
    second.close()
    assert run(engine_on(tmp_path, tiny_model), STORY) == (cold, len(STORY))  # written anew


@pytest.mark.parametrize("ending", [".state", ".page"])
def test_no_prompt_meets_the_states_of_another_one(
    tiny_model: JambaForCausalLM, tmp_path: Path, ending: str
) -> None:
    first = engine_on(tmp_path, tiny_model)
    cold, _ = run(first, STORY)
    first.close()
    for path in files(tmp_path, ending):
        tensors, told = read(path), headers(path)
        tensors["ids"] = tensors["ids"] ^ 1
        write(path, tensors, {"page": told["page"], "space": told["space"]})
    second = engine_on(tmp_path, tiny_model)
    assert not list(second.cache.nodes())
    assert run(second, STORY) == (cold, 0)
    assert not list(StoryCache(disk=Disk(tmp_path / "none", tiny_model)).nodes())


def test_no_space_meets_the_states_of_another_one(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    first = engine_on(tmp_path, tiny_model)
    run(first, STORY, "anna")
    run(first, [9, *STORY], "bert")
    first.close()
    spaces = sorted({headers(path)["space"] for path in files(tmp_path)})
    for path in files(tmp_path, ".state"):
        told = headers(path)
        other = spaces[1 - spaces.index(told["space"])]
        write(path, read(path), {"page": told["page"], "space": other})
    cache = engine_on(tmp_path, tiny_model).cache
    assert not list(cache.nodes())


# ---- shared with another process


@pytest.mark.parametrize("ending", ["", ".page"])
def test_what_another_process_has_removed_is_written_again(
    tiny_model: JambaForCausalLM, tmp_path: Path, ending: str
) -> None:
    engine = engine_on(tmp_path, tiny_model)
    reply, _ = run(engine, STORY)
    disk_of(engine).flush()
    for path in files(tmp_path, ending):
        path.unlink()
    turn = [*STORY, *reply, 9, 8]
    going_on, _ = run(engine, turn)
    engine.close()
    second = engine_on(tmp_path, tiny_model)
    assert run(second, turn) == (going_on, len(turn))
    assert run(second, [*turn[: len(STORY)], 4])[1] == (len(STORY) if ending else 0)


def test_what_was_lost_is_written_when_it_is_put_again(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    put(cache, STORY, tiny_model)
    cache.flush()
    for path in files(tmp_path):
        path.unlink()
    put(cache, STORY, tiny_model)  # which memory has all the time
    cache.close()
    assert engine_on(tmp_path, tiny_model).cache.find(STORY, BARE).length == len(STORY)


def test_two_servers_share_a_folder(tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    engines = [engine_on(tmp_path, tiny_model) for _ in range(2)]
    prompts = [[*STORY[: 300 + 40 * number], 7] for number in range(4)]
    replies = [run(engines[number % 2], prompt)[0] for number, prompt in enumerate(prompts)]
    for engine in engines:
        engine.close()
        assert not {kind for kind, count in disk_of(engine).failures.items() if count}
    third = engine_on(tmp_path, tiny_model)
    for prompt, reply in zip(prompts, replies, strict=True):
        assert run(third, prompt) == (reply, len(prompt))


# ---- not to be read now


@pytest.mark.parametrize(
    "error",
    [
        OSError(24, "Too many open files"),
        FileNotFoundError("No such file or directory: x"),  # as safetensors says it of too many open files
        RuntimeError("unable to open file <x> in read-only mode: Too many open files (24)"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_read_for_a_moment_is_not_lost(
    tiny_model: JambaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    first = engine_on(tmp_path, tiny_model)
    cold, _ = run(first, STORY)
    first.close()
    second = engine_on(tmp_path, tiny_model)
    assert second.cache.find([*STORY[:-1], 5], BARE).shared == len(STORY) - 1
    there = files(tmp_path)

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("spellbound.engine.disk_files.safe_open", failing)
    assert second.cache.find(STORY, BARE).length == 0
    assert disk_of(second).failures["read"] > 0
    monkeypatch.undo()
    assert files(tmp_path) == there
    assert run(second, STORY) == (cold, len(STORY))


def test_at_the_start_nothing_is_removed_for_what_cannot_be_read_now(
    tiny_model: JambaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine_on(tmp_path, tiny_model)
    run(first, STORY)
    first.close()
    there = files(tmp_path)
    for path in there:
        os.utime(path, (1, 1))
    for ending in (".page", ".state"):

        def failing(path: Path, ending: str = ending, **named: Any) -> Any:
            if path.name.endswith(f"{ending}.safetensors"):
                raise OSError(24, "Too many open files")
            return safe_open(path, **named)

        monkeypatch.setattr("spellbound.engine.disk_files.safe_open", failing)
        assert not list(engine_on(tmp_path, tiny_model).cache.nodes())
        assert files(tmp_path) == there
    monkeypatch.undo()
    assert run(engine_on(tmp_path, tiny_model), STORY)[1] == len(STORY)


# ---- the budget


def test_of_equal_worth_the_longest_unused_leave_and_at_once_if_the_budget_is_lower_now(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    for start in (22, 20, 25, 21):
        put(cache, [start, 5, 6], tiny_model)
    cache.close()
    for path in files(tmp_path, ".state"):
        with safe_open(path, framework="pt") as stored:
            place = (22, 20, 25, 21).index(int(stored.get_tensor("ids")[0]))
        os.utime(path, (1_000_000 + place, 1_000_000 + place))
    engine = engine_on(tmp_path, tiny_model)
    engine.cache.find([22, 5, 6], BARE)  # the oldest is used
    size = sum(path.stat().st_size for path in files(tmp_path))
    lower = engine_on(tmp_path, tiny_model, disk=size // 2).cache
    assert {int(node.path()[0]) for node in lower.nodes()} == {21, 22}
    assert len(files(tmp_path)) == 2


def test_what_would_cost_most_to_read_again_stays_on_disk_longest(
    tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    cache = engine_on(tmp_path, tiny_model).cache
    ends = [200, *range(202, 240, 2)]
    for end in ends:
        put(cache, STORY[:end], tiny_model)
    disk = disk_of(Engine(tiny_model, cache=cache))
    disk.max_bytes = disk.nbytes // 4
    put(cache, [9], tiny_model)
    left = sorted(node.end for node in cache.nodes() if node.key)
    assert 200 in left  # which was not used for longest
    assert 1 < len(left) <= len(ends) // 3
    assert disk.nbytes <= disk.max_bytes
