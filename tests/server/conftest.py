"""One model with two adapters, and a server in front of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spellbound.story.completion import EngineSettings
from spellbound.story.local import LocalGenerator
from tests.engine.test_adapters import write_adapter
from tests.server.running import Site, running


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(base / name, seed) for seed, name in enumerate(("anna", "bert"))}


@pytest.fixture(scope="session")
def generator(tiny_folder: Path, adapters: dict[str, Path]) -> Iterator[LocalGenerator]:
    settings = EngineSettings(max_streams=4, max_waiting=60)
    made = LocalGenerator(tiny_folder, adapters=adapters, settings=settings)
    yield made
    made.close()


@pytest.fixture(scope="session")
def site(generator: LocalGenerator) -> Iterator[Site]:
    with running({"tiny": generator}) as site:
        yield site


@pytest.fixture(scope="session")
def client(site: Site) -> Iterator[Any]:
    """OpenAI's own; untyped, for its types know no server but OpenAI's."""
    with site.openai() as client:
        yield client
