"""Adapters that come, change and go while a model is served."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spellbound.server import app
from spellbound.server.offers import require_adapter_name
from spellbound.story.adapter_folder import WEIGHTS, AdapterFolder
from spellbound.story.completion import EngineSettings
from spellbound.story.local import LocalGenerator
from tests.engine.test_adapters import write_adapter
from tests.server.running import HELLO, STORY, Site, running, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "adapters"
    made.mkdir()
    return made


@pytest.fixture
def site(tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(app, "_LOOK_AGAIN_S", 0.0)
    generator = LocalGenerator(tiny_folder, settings=EngineSettings(max_streams=4))
    beside = AdapterFolder(folder, generator.engine, require_adapter_name)
    assert beside.refresh() == []
    with running({"tiny": generator}, refresh=beside.refresh) as site:
        yield site
    generator.close()


def names(site: Site) -> list[str]:
    listed = site.shared.get("/v1/models").json()["data"]
    return [each["id"] for each in listed if not each["id"].endswith("-plain")]


def said(site: Site, model: str) -> str:
    body = {"model": model, "messages": HELLO, "max_tokens": 12, "temperature": 0}
    answer = site.post("/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_an_adapter_that_comes_is_offered_and_one_that_goes_is_not(site: Site, folder: Path) -> None:
    assert names(site) == ["tiny"]
    bare = said(site, "tiny")
    write_adapter(folder / "anna", 0)
    assert said(site, "tiny:anna") != bare  # asked for before anybody listed it
    assert site.post("/v1/chat/completions", {"model": "tiny:bert", "messages": HELLO}).status_code == 404
    assert names(site) == ["tiny", "tiny:anna"]
    shutil.rmtree(folder / "anna")
    assert names(site) == ["tiny"]
    assert site.post("/v1/chat/completions", {"model": "tiny:anna", "messages": HELLO}).status_code == 404
    assert said(site, "tiny") == bare


def test_an_adapter_that_was_trained_further_is_read_anew(site: Site, folder: Path) -> None:
    write_adapter(folder / "anna", 0)
    before = said(site, "tiny:anna")
    shutil.rmtree(folder / "anna")
    write_adapter(folder / "anna", 1)
    assert names(site) == ["tiny", "tiny:anna"]
    after = said(site, "tiny:anna")
    write_adapter(folder / "bert", 1)
    assert after == said(site, "tiny:bert") != before


def test_one_of_the_same_size_and_time_is_another(site: Site, folder: Path, tmp_path: Path) -> None:
    write_adapter(folder / "anna", 0)
    before = said(site, "tiny:anna")
    times = (folder / "anna" / WEIGHTS).stat()
    write_adapter(tmp_path / "new", 1)
    os.utime(tmp_path / "new" / WEIGHTS, ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "new" / WEIGHTS).replace(folder / "anna" / WEIGHTS)
    assert names(site) == ["tiny", "tiny:anna"]
    assert said(site, "tiny:anna") != before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[" * 100_000, "cannot be read"),
        ('{"peft_type": "LORA", "r": 2, "lora_alpha": 1' + "0" * 400 + "}", "an alpha is not a number"),
        ('{"peft_type": "LORA", "r": 2, "rank_pattern": {"(?i)x": 3}}', "is no regular expression"),
    ],
    ids=["nested", "huge", "flags"],
)
def test_a_folder_of_nonsense_is_named_and_the_others_are_offered(
    site: Site, folder: Path, caplog: pytest.LogCaptureFixture, config: str, words: str
) -> None:
    write_adapter(folder / "anna", 0)
    (folder / "anna" / "adapter_config.json").write_text(config)
    write_adapter(folder / "bert", 0)
    (folder / "none").mkdir(mode=0)
    assert names(site) == names(site) == names(site) == ["tiny", "tiny:bert"]
    (told,) = [record.getMessage() for record in caplog.records if record.name == app.__name__]
    assert told.startswith(f"{folder / 'anna'}: cannot be used: ")
    assert words in told
    assert "\n" not in told


def test_what_cannot_be_read_is_said_once_and_leaves_the_rest(
    site: Site, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(folder / "anna", 0)
    write_adapter(folder / "no name!", 0)
    write_adapter(folder / ".draft", 0)
    write_adapter(folder / "anna-plain", 0)
    whole = said(site, "tiny:anna")
    half = (folder / "anna" / WEIGHTS).read_bytes()[:-40]  # as while it is being copied
    (folder / "anna" / WEIGHTS).write_bytes(half)
    assert names(site) == names(site) == names(site) == ["tiny", "tiny:anna"]
    assert said(site, "tiny:anna") == whole
    told = [record.getMessage() for record in caplog.records if record.name == app.__name__]
    assert len(told) == 3
    for words in ("'no name!' is no name", "'anna-plain' is no name", f"{folder / 'anna'}: "):
        assert sum(words in each for each in told) == 1
    shutil.rmtree(folder)
    assert names(site) == ["tiny", "tiny:anna"]
    assert caplog.records[-1].getMessage() == f"{folder}: no such file or directory"


@pytest.fixture
def slow(tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Looks take longer than the texts that are asked for here."""
    monkeypatch.setattr(app, "_LOOK_AGAIN_S", 0.0)
    generator = LocalGenerator(tiny_folder, settings=EngineSettings(max_streams=4))
    beside = AdapterFolder(folder, generator.engine, require_adapter_name)
    write_adapter(folder / "anna", 0)
    assert beside.refresh() == []

    def refresh() -> list[str]:
        time.sleep(0.4)
        return beside.refresh()

    with running({"tiny": generator}, refresh=refresh) as site:
        yield site
    generator.close()


def test_who_asks_for_one_gets_the_one_that_is_there_now(slow: Site, folder: Path, tmp_path: Path) -> None:
    before = said(slow, "tiny:anna")
    write_adapter(tmp_path / "new", 1)
    (folder / "anna").rename(tmp_path / "old")
    (tmp_path / "new").rename(folder / "anna")
    assert said(slow, "tiny:anna") != before
    shutil.rmtree(folder / "anna")
    gone = slow.post("/v1/chat/completions", {"model": "tiny:anna", "messages": HELLO})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/stories/write"])
def test_one_that_goes_between_two_looks_is_no_model_any_more(
    slow: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(app, "_LOOK_AGAIN_S", 1000.0)
    generator = slow.service.offers.completers["tiny"]
    assert isinstance(generator, LocalGenerator)
    generator.engine.remove_adapter("anna")
    gone = slow.post(path, {"model": "tiny:anna", "messages": HELLO, "prompt": STORY})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert gone.json()["error"]["message"].startswith(
        "the model 'tiny:anna' is not here; choose one of: tiny,"
    )


def test_what_was_passed_over_is_looked_at_again_at_once(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(folder / "anna", 0)
    before = said(site, "tiny:anna")
    body = {
        "model": "tiny:anna",
        "messages": HELLO,
        "max_tokens": 20_000,
        "min_tokens": 20_000,
        "stream": True,
    }
    with site.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        shutil.rmtree(folder / "anna")
        write_adapter(folder / "anna", 1)
        assert said(site, "tiny:anna") == before
        monkeypatch.setattr(app, "_LOOK_AGAIN_S", 1000.0)
        assert said(site, "tiny:anna") == before
    (generator,) = site.service.offers.completers.values()
    until(lambda: not len(site.service.gate) and not generator.load.running)
    assert said(site, "tiny:anna") != before


def test_one_that_is_written_with_changes_afterwards(site: Site, folder: Path) -> None:
    write_adapter(folder / "anna", 0)
    before = said(site, "tiny:anna")
    with site.openai() as client:
        stream = client.chat.completions.create(
            model="tiny:anna",
            messages=HELLO,
            max_tokens=20_000,
            stream=True,
            extra_body={"min_tokens": 20_000},
        )
        next(iter(stream))
        shutil.rmtree(folder / "anna")
        write_adapter(folder / "anna", 1)
        assert said(site, "tiny:anna") == before
        stream.close()
    for _ in range(200):
        if said(site, "tiny:anna") != before:
            return
    raise AssertionError("the new one was never taken")
