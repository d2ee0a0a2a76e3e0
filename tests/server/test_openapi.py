"""The OpenAPI document and what the server does: requests made from the one, sent to the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import TypeAdapter

from spellbound.server import replies
from spellbound.server.app import create_app
from spellbound.server.settings import ServeSettings
from spellbound.story.completion import EngineSettings
from spellbound.story.local import LocalGenerator
from tests.conftest import make_model, write_tokenizer
from tests.server.running import Site, running

KEY = "a-key-of-enough-letters"
SETTINGS = ServeSettings(port=0, key=KEY)
CONTEXT = 192
"""Tokens; so few that even endless texts end soon."""


class _Nobody:
    """The document does not depend on who writes."""

    context, fault, adapters = None, "", list[str]()


SCHEMA = schemathesis.openapi.from_dict(create_app({"tiny": _Nobody()}, SETTINGS).openapi())  # type: ignore[dict-item]


# That a request is allowed by its schema does not make it one that can be granted: a grammar may be none, a
# token not in the vocabulary, a prompt too long. Such a 400 still has to be an error object.
TOO_STRICT: Any = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
EVENTS = {
    "/v1/chat/completions": TypeAdapter[Any](replies.ChatEvent),
    "/v1/completions": TypeAdapter[Any](replies.CompletionEvent),
    "/v1/stories/write": TypeAdapter[Any](replies.StreamedEvent),
}


def events(stream: str) -> list[str]:
    """The JSON of a stream."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [each for each in data if each != replies.DONE]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("short")
    write_tokenizer(folder)
    make_model().save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": CONTEXT}))
    generator = LocalGenerator(folder, settings=EngineSettings(max_streams=16))
    with running({"tiny": generator}, SETTINGS) as site:
        yield site
    generator.close()


@SCHEMA.parametrize()
@settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_is_said_is_so(case: Any, site: Site) -> None:
    """Every status, header, type and object is in the document; what that does not allow is refused."""
    answer = case.call_and_validate(
        base_url=site.url,
        headers={"Authorization": f"Bearer {KEY}"},
        excluded_checks=[TOO_STRICT],
        timeout=120,
    )
    if answer.headers["content-type"][0].startswith("text/event-stream"):
        for each in events(answer.text):
            EVENTS[case.path].validate_json(each)
