"""Who may ask: loopback, keys, hosts, pages, and how many at once."""

from typing import Any

import openai
import pytest

from spellbound.errors import InputError
from spellbound.server.settings import ServeSettings, host_name
from spellbound.story.completion import EngineSettings
from spellbound.story.local import LocalGenerator
from tests.server.running import HELLO, Site, idle, running, until

KEY = "a-key-of-enough-letters"
TEXT = "/v1/completions"
SHORT: dict[str, Any] = {"prompt": "Fog", "max_tokens": 2}
LONG: dict[str, Any] = {"prompt": "Fog", "max_tokens": 100_000, "min_tokens": 100_000, "stream": True}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines; put an API key"),  # noqa: S104
        ({"host": "::"}, "can be reached from other machines"),
        ({"host": "stories.example"}, "can be reached from other machines"),
        ({"key": "short"}, "fewer than 16 characters"),
        ({"key": "ä" * 20}, "printable ASCII"),
        ({"cors_origins": ("*",)}, "no address of a page"),
        ({"cors_origins": ("http://a.example/",)}, "no address of a page"),
        ({"cors_origins": ("http://*.example",)}, "no address of a page"),
        ({"cors_origins": ("null",)}, "no address of a page"),
        ({"port": 70000}, "from 0 to 65535"),
        ({"max_per_client": 0}, "give 1 or more"),
        ({"max_body_bytes": 0}, "give 1 or more"),
        ({"grace_s": -1.0}, "0 to 3600"),
        ({"plain_form": "verse"}, "give prose or script"),
        ({"language": "tlh"}, "no quotation marks"),
    ],
)
def test_settings_that_would_let_strangers_in(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServeSettings(**settings)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(ServeSettings(key=KEY, host="0.0.0.0"))  # noqa: S104


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8000", "localhost"),
        ("[::1]:8000", "::1"),
        ("EVIL.example", "evil.example"),
        ("", ""),
        ("a@localhost", ""),
        ("localhost/x", ""),
        ("localhost:x", ""),
        ("[::1", ""),
    ],
)
def test_names_in_host_headers(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("settings", "host", "in_"),
    [
        ({}, "localhost", True),
        ({}, "127.0.0.1:8000", True),
        ({}, "[::1]:8000", True),
        ({}, "evil.example", False),
        ({}, "localhost.evil.example", False),
        ({}, "192.168.1.5", False),
        ({}, "", False),
        ({"allowed_hosts": ("stories.example",)}, "stories.example:80", True),
        ({"host": "0.0.0.0", "key": KEY}, "192.168.1.5:8000", True),  # noqa: S104
        ({"host": "0.0.0.0", "key": KEY}, "evil.example", False),  # noqa: S104
        ({"host": "192.168.1.5", "key": KEY}, "192.168.1.5:8000", True),
        ({"host": "192.168.1.5", "key": KEY}, "192.168.1.6:8000", False),
        ({"host": "MyBox.Local", "key": KEY}, "mybox.local:8000", True),
        ({"host": "MyBox.Local", "key": KEY}, "MyBox.Local", True),
        ({"allowed_hosts": ("Stories.Example",)}, "stories.example", True),
    ],
)
def test_hosts_that_are_ours(settings: dict[str, Any], host: str, in_: bool) -> None:
    assert ServeSettings(**settings).lets_in(host) is in_


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nowhere"])
def test_a_name_that_was_rebound_is_refused(site: Site, path: str) -> None:
    with site.http(Host="evil.example") as client:
        answer = client.get(path)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


def test_foreign_pages_are_refused_and_our_own_are_not(site: Site) -> None:
    for origin, status in (("http://evil.example", 403), ("null", 403), (site.url, 200)):
        answer = site.post(TEXT, SHORT, Origin=origin)
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_that_was_named_may_ask(generator: LocalGenerator) -> None:
    page = "http://localhost:3000"
    settings = ServeSettings(port=0, cors_origins=(page,), key=KEY)
    with running({"tiny": generator}, settings) as site, site.http(Origin=page) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        before = client.options(TEXT, headers=asked)
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, page)
        refused = client.post(TEXT, json=SHORT)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, page)
        with site.http(Origin="http://localhost:3001") as other:
            assert other.options(TEXT, headers=asked).status_code == 403


def test_the_key_opens_everything_but_health(generator: LocalGenerator) -> None:
    with running({"tiny": generator}, ServeSettings(port=0, key=KEY)) as site:
        with site.http() as client:
            assert client.get("/health").status_code == 200
            for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
                answer = client.get(path)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert client.get(path, headers={"Authorization": f"Basic {KEY}"}).status_code == 401
                assert client.get(path, headers={"Authorization": f"Bearer {KEY[:-1]}"}).status_code == 401
                assert client.get(path, headers={b"Authorization": b"Bearer \xff"}).status_code == 401
                assert client.get(path, headers={"Authorization": f"bearer {KEY}"}).status_code != 401
        with site.openai(KEY) as right:
            assert len(list(right.models.list())) == 6
        with site.openai("x" * 23) as wrong, pytest.raises(openai.AuthenticationError) as caught:
            wrong.models.list()
        assert caught.value.code == "invalid_api_key"


def test_one_client_has_so_many_requests(generator: LocalGenerator) -> None:
    with running({"tiny": generator}, ServeSettings(port=0, max_per_client=2)) as site, site.http() as client:
        with client.stream("POST", TEXT, json=LONG) as one, client.stream("POST", TEXT, json=LONG) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            refused = client.post(TEXT, json=SHORT)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert client.get("/health").status_code == 200
        until(lambda: not len(site.service.gate))
        assert client.post(TEXT, json=SHORT).status_code == 200
        until(lambda: idle(generator))


def test_each_text_of_a_request_counts(generator: LocalGenerator) -> None:
    with running({"tiny": generator}, ServeSettings(port=0, max_per_client=3)) as site, site.http() as client:
        with client.stream("POST", TEXT, json=LONG | {"n": 2}) as one:
            assert one.status_code == 200
            for asked in ({"n": 2}, {"prompt": ["a", "b"]}):
                refused = client.post(TEXT, json=SHORT | asked)
                assert refused.status_code == 429
                assert refused.json()["error"]["message"] == (
                    "2 texts of yours are worked on already, and with 2 more they would be above 3;"
                    " wait for some to end"
                )
            assert client.post(TEXT, json=SHORT).status_code == 200
        until(lambda: not len(site.service.gate))
        assert client.post(TEXT, json=SHORT | {"n": 4}).status_code == 200  # alone it may have more
        until(lambda: idle(generator))


def test_a_full_queue_says_when_to_come_again(tiny_folder: Any) -> None:
    generator = LocalGenerator(tiny_folder, settings=EngineSettings(max_streams=1, max_waiting=1))
    with running({"tiny": generator}) as site, site.http() as client:
        with client.stream("POST", TEXT, json=LONG):
            until(lambda: generator.load.running == 1)
            with client.stream("POST", TEXT, json=LONG):
                until(lambda: generator.load.waiting == 1)
                refused = client.post(TEXT, json=SHORT)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
                assert refused.json()["error"]["code"] == "engine_busy"
                assert site.metric('spellbound_queue{model="tiny"}') == 1
                with site.openai() as openai_client, pytest.raises(openai.InternalServerError):
                    openai_client.chat.completions.create(model="tiny", messages=HELLO)
        until(lambda: idle(generator))
        assert client.post(TEXT, json=SHORT).status_code == 200
    generator.close()


def test_a_prompt_limit_of_ones_own(tiny_folder: Any) -> None:
    generator = LocalGenerator(tiny_folder, settings=EngineSettings(max_prompt_tokens=10))
    with running({"tiny": generator}) as site:
        assert site.post(TEXT, SHORT | {"prompt": "x" * 9}).status_code == 200
        error = site.post(TEXT, SHORT | {"prompt": "x" * 10}).json()["error"]
        assert error["message"].startswith("the prompt has 11 tokens and at most 10 are read")
    generator.close()
    with pytest.raises(InputError, match="max_prompt_tokens is 0"):
        EngineSettings(max_prompt_tokens=0)
