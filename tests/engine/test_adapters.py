"""Adapters by name on one base: each request is written with its own, and nothing of another is met."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from spellbound.engine import Disk, Engine, Request, SamplingParams, StoryCache
from spellbound.errors import EngineBusy, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import LoraSettings, adapter_parameters, attach_lora, load_adapter, save_adapter
from spellbound.jamba.lora.attach import put_adapter
from tests.conftest import make_model

TARGETS = ("in_proj", "q_proj", "experts.down_proj", "dt_proj")
GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
PROMPT = [1, *range(40, 140)]


def write_adapter(folder: Path, seed: int) -> Path:
    model = make_model()
    settings = LoraSettings(rank=4, targets=TARGETS)
    attach_lora(model, settings)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4)
    save_adapter(model, folder, base_name="tiny")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(base / name, seed) for seed, name in enumerate(("anna", "bert"))}


@pytest.fixture
def engine(folders: dict[str, Path]) -> Engine:
    made = Engine(make_model())
    for name, folder in folders.items():
        made.add_adapter(name, folder)
    return made


def write(engine: Engine, adapter: str | None, prompt: list[int] = PROMPT) -> tuple[list[int], int]:
    generation = engine.generate(Request(prompt_ids=prompt, params=GREEDY, adapter=adapter))
    return list(generation), generation.stats.reused_tokens


def alone(folder: Path | None) -> list[int]:
    model = make_model()
    if folder is not None:
        load_adapter(model, folder)
    return write(Engine(model), None)[0] if folder is None else plain(model)


def plain(model: JambaForCausalLM) -> list[int]:
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(12):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


def test_each_request_is_written_with_its_adapter_also_together(
    engine: Engine, folders: dict[str, Path]
) -> None:
    expected = {name: alone(folders.get(name or "")) for name in (None, *folders)}
    assert len({tuple(tokens) for tokens in expected.values()}) == 3
    for _ in range(2):  # cold, then from the cache
        for name, tokens in expected.items():
            assert write(engine, name)[0] == tokens
    fresh = Engine(make_model())
    for name, folder in folders.items():
        fresh.add_adapter(name, folder)
    asked = [name for name in expected for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda name: write(fresh, name)[0], asked))
    assert found == [expected[name] for name in asked]


def test_one_adapter_never_meets_what_another_has_read(engine: Engine) -> None:
    write(engine, "anna")
    assert write(engine, "anna")[1] == len(PROMPT)
    assert write(engine, "bert")[1] == 0
    assert write(engine, None)[1] == 0


def test_another_adapter_of_the_same_name_begins_anew_also_on_disk(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def engine_with(folder: Path) -> Engine:
        model = make_model()
        made = Engine(model, cache=StoryCache(disk=Disk(tmp_path, model)))
        made.add_adapter("latest", folder)
        return made

    first = engine_with(folders["anna"])
    one, _ = write(first, "latest")
    first.add_adapter("latest", folders["bert"])  # while it runs
    other, reused = write(first, "latest")
    assert reused == 0
    assert one != other
    first.close()
    assert write(engine_with(folders["bert"]), "latest") == (other, len(PROMPT))
    assert write(engine_with(folders["anna"]), "latest") == (one, len(PROMPT))


def test_an_adapter_is_not_exchanged_under_a_request_that_comes_meanwhile(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = write(engine, "anna")
    reading, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        reading.set()
        assert go_on.wait(20)
        return load_adapter(*arguments)

    monkeypatch.setattr("spellbound.jamba.lora.switching.load_adapter", slowly)
    write_adapter(tmp_path / "another", 7)
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(engine.add_adapter, "anna", tmp_path / "another")
        assert reading.wait(20)
        written = pool.submit(write, engine, "anna")
        while engine.load == (0, 0):
            time.sleep(0.01)
        go_on.set()
        with pytest.raises(EngineBusy):
            adding.result()
        assert written.result()[0] == before
    engine.add_adapter("anna", tmp_path / "another")
    assert write(engine, "anna")[0] != before


def test_an_adapter_that_cannot_be_put_on_leaves_the_model_as_it_was(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, _ = write(engine, None)
    write_adapter(tmp_path / "carl", 7)
    calls = count(1)

    def fails(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("out of memory")
        return put_adapter(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("spellbound.jamba.lora.folder.put_adapter", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.add_adapter("carl", tmp_path / "carl")
    engine.cache.forget()
    assert write(engine, None)[0] == bare
    engine.add_adapter("carl", tmp_path / "carl")
    assert write(engine, "carl")[0] != bare


def test_the_bare_model_is_what_it_was(engine: Engine) -> None:
    before = {name: weight.clone() for name, weight in make_model().state_dict().items()}
    write(engine, "anna")
    write(engine, None)
    after = engine.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_unknown_unfitting_and_busy_adapters_are_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no adapter 'carl'; there are: anna, bert"):
        engine.generate(Request(prompt_ids=PROMPT, params=GREEDY, adapter="carl"))
    with pytest.raises(ModelError, match="there is no adapter 'carl'"):
        engine.remove_adapter("carl")
    with pytest.raises(ModelError):
        engine.add_adapter("carl", tmp_path)
    assert engine.adapters == ["anna", "bert"]
    long = SamplingParams(temperature=0.0, max_tokens=100_000)
    generation = engine.generate(Request(prompt_ids=PROMPT, params=long, adapter="anna"))
    next(generation)
    with pytest.raises(EngineBusy, match="1 requests of the adapter 'anna' are being written"):
        engine.remove_adapter("anna")
    generation.close()
    engine.remove_adapter("anna")
    assert engine.adapters == ["bert"]
    assert len(write(engine, "bert")[0]) == 12
