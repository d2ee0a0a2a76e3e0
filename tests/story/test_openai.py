"""The generator in front of a server, against a real one on loopback that also misbehaves."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from spellbound.directives import Character, StoryPrompt, grammar, structural_tag
from spellbound.errors import EnvironmentFault, InputError
from spellbound.retrying import waiting_time
from spellbound.story import (
    Ending,
    OpenAIGenerator,
    ServerRefused,
    ServerSettings,
    ServerStopped,
    Usage,
    WriteOptions,
    collect,
)
from spellbound.story.answer import read_event
from spellbound.story.request import gbnf
from tests.directives.cases import ACCEPTED, REJECTED, UNFINISHED
from tests.directives.cases import CAST as CAST_IDS
from tests.story.loopback import Loopback, chat, cuts, fails, hangs, plain, says, streams, then_hangs, whole

CAST = (Character("Mara", "32AN4R"), Character("Tom", "K7Q2ZX"))
PROMPT = StoryPrompt(CAST, "The fog came in.", ("Let Tom speak.",))
PIECES = ("The fog lif", 'ted. <quote speaker="K7', 'Q2ZX">Who is th', "ere?</quo", "te> He wai", "ted.")
TEXT = 'The fog lifted. <quote speaker="K7Q2ZX">Who is there?</quote> He waited.'
KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.delenv("SPELLBOUND_API_KEY", raising=False)
    with Loopback() as loopback:
        yield loopback


Make = Callable[..., OpenAIGenerator]


@pytest.fixture
def make(server: Loopback) -> Make:
    def make(**changes: Any) -> OpenAIGenerator:
        given: dict[str, Any] = {
            "url": server.url,
            "model": "jamba",
            "backoff_s": 0.01,
            "retries": 2,
        } | changes
        return OpenAIGenerator(ServerSettings(**given))

    return make


def heard(generator: OpenAIGenerator, options: WriteOptions | None = None) -> tuple[str, Exception]:
    """What was written before an error, and the error."""
    text: list[str] = []
    try:
        for piece in generator.write(PROMPT, options or WriteOptions()):
            assert isinstance(piece, str)
            text.append(piece)
    except (InputError, EnvironmentFault) as error:
        return "".join(text), error
    raise AssertionError("there was no error")


def sent(
    server: Loopback, make: Make, options: WriteOptions, prompt: StoryPrompt = PROMPT, **how: Any
) -> Any:
    """The body that reaches the server."""
    collect(make(**how).write(prompt, options))
    return server.requests[-1]


class TestStreams:
    def test_a_passage(self, server: Loopback, make: Make) -> None:
        server.answer = says(*PIECES)
        text, ending = collect(make().write(PROMPT, WriteOptions()))
        assert text == TEXT
        assert (ending.reason, ending.words, ending.closed, ending.repairs) == ("stop", 8, (), ())
        assert (ending.usage.prompt_tokens, ending.usage.reused_tokens, ending.usage.written_tokens) == (
            100,
            64,
            7,
        )
        assert server.paths == ["/v1/chat/completions"]

    def test_completions(self, server: Loopback, make: Make) -> None:
        server.answer = streams(whole(PIECES, event=plain))
        text, ending = collect(make(api="completions").write(PROMPT, WriteOptions()))
        assert (text, ending.reason) == (TEXT, "stop")
        assert server.paths == ["/v1/completions"]
        assert server.requests[0]["prompt"] == PROMPT.render() + "\n"

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_any_pieces(self, server: Loopback, make: Make, size: int) -> None:
        server.answer = says(*(TEXT[start : start + size] for start in range(0, len(TEXT), size)))
        assert collect(make().write(PROMPT, WriteOptions()))[0] == TEXT

    def test_pieces_are_shown_while_they_come(self, server: Loopback, make: Make) -> None:
        server.answer = then_hangs(chat("The fog came in. And"))
        pieces = make().write(PROMPT, WriteOptions())
        assert next(pieces) == "The fog came in. And"
        pieces.close()  # type: ignore[attr-defined]
        assert server.gone.wait(5)

    def test_cut_at_the_token_limit(self, server: Loopback, make: Make) -> None:
        server.answer = says('A. <action>He ran <quote speaker="K7Q2ZX">No', finish="length")
        text, ending = collect(make().write(PROMPT, WriteOptions()))
        assert text == 'A. <action>He ran <quote speaker="K7Q2ZX">No</quote></action>'
        assert (ending.reason, ending.closed, ending.repairs) == ("length", ("quote", "action"), ())

    def test_malformed_tags_are_mended(self, server: Loopback, make: Make) -> None:
        server.answer = says("</sound>A <b> c <quote speaker='K7Q2ZX'>Hi", " <acti")
        text, ending = collect(make(dialect="openai").write(PROMPT, WriteOptions()))
        assert text == 'A &lt;b&gt; c <quote speaker="K7Q2ZX">Hi &lt;acti</quote>'
        assert ending.closed == ("quote",)
        assert [repair.code for repair in ending.repairs] == ["unopened", "spelling", "unclosed"]
        again, mended = collect(_again(text))
        assert (again, mended.repairs) == (text, ())

    def test_a_speaker_outside_the_cast_is_kept_as_by_a_local_model(
        self, server: Loopback, make: Make
    ) -> None:
        server.answer = says('<quote speaker="ZZZZZZ">I.</quote>')
        text, ending = collect(make(dialect="openai").write(PROMPT, WriteOptions()))
        assert text == '<quote speaker="ZZZZZZ">I.</quote>'
        assert ending.repairs == ()

    def test_so_many_words_close_the_connection(self, server: Loopback, make: Make) -> None:
        server.answer = then_hangs(*(chat("word " if at % 10 else "end.\n\n") for at in range(1, 40)))
        text, ending = collect(make().write(PROMPT, WriteOptions(words=12)))
        assert (ending.reason, ending.words, len(text.split())) == ("words", 20, 20)
        assert server.gone.wait(5)

    def test_usage_with_every_piece_needs_no_end(self, server: Loopback, make: Make) -> None:
        used = [
            {**chat("word "), "usage": {"prompt_tokens": 50, "completion_tokens": 2 * at, "total_tokens": 0}}
            for at in range(1, 200)
        ]
        server.answer = then_hangs(*used)
        _, ending = collect(make().write(PROMPT, WriteOptions(words=1)))
        assert (ending.reason, ending.words) == ("words", 82)
        assert (ending.usage.prompt_tokens, ending.usage.written_tokens) == (50, 164)

    def test_so_do_the_counts_of_llama_cpp(self, server: Loopback, make: Make) -> None:
        counts = [{"cache_n": 40, "prompt_n": 10, "predicted_n": 2 * at} for at in range(200)]
        server.answer = then_hangs(*({**chat("word "), "timings": each} for each in counts))
        _, ending = collect(make(dialect="llama.cpp").write(PROMPT, WriteOptions(words=1)))
        usage = ending.usage
        assert (usage.prompt_tokens, usage.reused_tokens, usage.reuse_known) == (50, 40, True)
        assert usage.written_tokens == 162

    def test_without_usage_pieces_are_counted(self, server: Loopback, make: Make) -> None:
        server.answer = streams([chat("a "), 0.02, chat("b"), chat("", "stop"), "[DONE]"])
        usage = collect(make().write(PROMPT, WriteOptions()))[1].usage
        assert (usage.prompt_tokens, usage.reused_tokens, usage.written_tokens) == (0, 0, 2)
        assert usage.prefill_seconds > 0
        assert usage.tokens_per_second > 0

    def test_nothing_at_all_is_an_empty_passage(self, server: Loopback, make: Make) -> None:
        server.answer = says()
        text, ending = collect(make().write(PROMPT, WriteOptions()))
        assert (text, ending.words, ending.reason) == ("", 0, "stop")
        assert ending.usage.tokens_per_second == 0

    def test_an_end_without_done(self, server: Loopback, make: Make) -> None:
        for events in ([chat("A."), chat("", "stop")], [chat("A.", "stop")]):
            server.answer = streams(events, cut=True)
            assert collect(make().write(PROMPT, WriteOptions()))[0] == "A."
        server.answer = then_hangs(chat("A."), chat("", "stop"))  # and nothing ever after
        assert collect(make().write(PROMPT, WriteOptions()))[0] == "A."

    def test_another_reason_of_the_server(self, server: Loopback, make: Make) -> None:
        server.answer = says("<action>A", finish="content_filter")
        text, error = heard(make())
        assert text == "<action>A</action>"
        assert "'content_filter' ended the passage, not the model" in str(error)

    def test_half_a_character(self, server: Loopback, make: Make) -> None:
        server.answer = streams(
            [b'{"choices": [{"delta": {"content": "a \\ud83d \\ud83d\\udd14"}}]}', chat("", "stop")]
        )
        assert collect(make().write(PROMPT, WriteOptions()))[0] == "a \ufffd 🔔"

    def test_several_passages_at_a_time(self, server: Loopback, make: Make) -> None:
        server.answer = says(*PIECES)
        generator, texts = make(), []

        def write() -> None:
            texts.append(collect(generator.write(PROMPT, WriteOptions()))[0])

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == [TEXT] * 6


def _again(text: str) -> Iterator[str | Ending]:
    """Put a passage through the pen once more."""
    from spellbound.story import ScriptedGenerator

    return ScriptedGenerator([text]).write(PROMPT, WriteOptions())


class TestRequests:
    def test_vllm(self, server: Loopback, make: Make) -> None:
        options = WriteOptions(
            words=300, temperature=0.5, top_p=0.9, min_p=0.1, repetition_penalty=1.2, seed=7
        )
        body = sent(server, make, options)
        assert body.pop("messages") == [{"role": "user", "content": PROMPT.render()}]
        assert body.pop("structured_outputs") == {"grammar": grammar(CAST)}
        assert body == {
            "model": "jamba",
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": 2400,
            "min_tokens": 300,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": -1,
            "min_p": 0.1,
            "repetition_penalty": 1.2,
            "seed": 7,
        }

    def test_fewer_tokens_than_words(self, server: Loopback, make: Make) -> None:
        body = sent(server, make, WriteOptions(words=300, max_tokens=50))
        assert (body["min_tokens"], body["max_tokens"]) == (50, 50)

    def test_vllm_with_xgrammar(self, server: Loopback, make: Make) -> None:
        body = sent(server, make, WriteOptions(), dialect="vllm-xgrammar")
        assert body["structured_outputs"] == {"structural_tag": structural_tag(CAST)}
        assert "min_tokens" not in body

    def test_llama_cpp(self, server: Loopback, make: Make) -> None:
        body = sent(server, make, WriteOptions(), dialect="llama.cpp")
        assert body["grammar"] == gbnf(CAST)
        assert (body["min_p"], body["repeat_penalty"], body["top_k"]) == (0.05, 1.05, 0)
        assert body["timings_per_token"] is True
        assert not {"structured_outputs", "repetition_penalty", "min_tokens"} & body.keys()

    @pytest.mark.parametrize(
        ("api", "limit"), [("chat", "max_completion_tokens"), ("completions", "max_tokens")]
    )
    def test_openai_itself(self, server: Loopback, make: Make, api: str, limit: str) -> None:
        server.answer = streams(whole(["A."], event=chat if api == "chat" else plain))
        body = sent(server, make, WriteOptions(words=5), dialect="openai", api=api)
        said = {"messages"} if api == "chat" else {"prompt"}
        usual = {"model", "stream", "stream_options", "temperature", "top_p", "seed"}
        assert body.keys() == said | usual | {limit}

    @pytest.mark.parametrize("dialect", ["vllm", "vllm-xgrammar", "llama.cpp"])
    def test_without_the_constraint(self, server: Loopback, make: Make, dialect: str) -> None:
        body = sent(server, make, WriteOptions(constrain=False), dialect=dialect)
        assert not {"structured_outputs", "grammar"} & body.keys()

    def test_without_tags(self, server: Loopback, make: Make) -> None:
        prompt = StoryPrompt(CAST, "Fog.", (), tags=False)
        assert sent(server, make, WriteOptions(), prompt)["structured_outputs"] == {
            "grammar": grammar(CAST, tags=False)
        }
        assert (
            sent(server, make, WriteOptions(), prompt, dialect="llama.cpp")["grammar"] == "root ::= [^<>]*\n"
        )

    def test_an_adapter_by_name(self, server: Loopback, make: Make) -> None:
        assert sent(server, make, WriteOptions(), model="gothic")["model"] == "gothic"

    def test_the_only_model_is_found_once(self, server: Loopback, make: Make) -> None:
        generator = make(model="")
        for _ in range(2):
            collect(generator.write(PROMPT, WriteOptions()))
        assert [body["model"] for body in server.requests] == ["jamba", "jamba"]
        assert server.paths == ["/v1/models", "/v1/chat/completions", "/v1/chat/completions"]

    def test_of_several_models_one_must_be_named(self, server: Loopback, make: Make) -> None:
        server.models = ["jamba", "gothic"]
        text, error = heard(make(model=""))
        assert (text, type(error)) == ("", ServerRefused)
        assert "which model is meant must be said: it has jamba, gothic" in str(error)
        server.models = []
        assert "it names none" in str(heard(make(model=""))[1])


class TestKeys:
    def test_a_key_is_sent_and_nothing_else_of_the_environment(
        self, server: Loopback, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPELLBOUND_API_KEY", f" {KEY}\n")
        for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
            monkeypatch.setenv(name, "of-another-server")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-another-server")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        collect(make().write(PROMPT, WriteOptions()))
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        assert "of-another-server" not in str(server.headers)

    def test_without_a_key_none_is_sent(self, server: Loopback, make: Make) -> None:
        collect(make().write(PROMPT, WriteOptions()))
        assert "authorization" not in server.headers[0]

    def test_another_variable(self, server: Loopback, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", KEY)
        collect(make(key_variable="MY_KEY").write(PROMPT, WriteOptions()))
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"

    def test_a_key_that_cannot_be_one(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPELLBOUND_API_KEY", "clé")
        with pytest.raises(EnvironmentFault, match="SPELLBOUND_API_KEY holds characters that no key has"):
            make()

    @pytest.mark.parametrize("place", range(270, 310, 4))
    def test_not_even_half_a_key_is_told(
        self, server: Loopback, make: Make, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        monkeypatch.setenv("SPELLBOUND_API_KEY", KEY)
        server.answer = fails(400, f"{'x' * place} {KEY} and so on")
        assert KEY[:8] not in str(heard(make())[1])

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key(
        self,
        server: Loopback,
        make: Make,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        status: int,
    ) -> None:
        monkeypatch.setenv("SPELLBOUND_API_KEY", KEY)
        server.answer = fails(status, f"the key {KEY[:9]}... is wrong")
        with caplog.at_level(logging.DEBUG):
            _, error = heard(make())
        assert str(error).startswith(f"server {server.host}: status {status}; put ")
        assert "export SPELLBOUND_API_KEY=..." in str(error)
        assert len(server.requests) == 1
        assert KEY not in caplog.text
        assert KEY not in repr(error.__cause__) + repr(error.__context__)


class TestBeforeTheFirstPiece:
    @pytest.mark.parametrize(
        "behaviour", [fails(500), fails(503), fails(408), cuts], ids=["500", "503", "408", "cut"]
    )
    def test_another_try(self, server: Loopback, make: Make, behaviour: Any) -> None:
        server.script.extend([behaviour, behaviour])
        server.answer = says(*PIECES)
        assert collect(make().write(PROMPT, WriteOptions()))[0] == TEXT
        assert len(server.requests) == 3
        assert server.requests[0] == server.requests[2]

    def test_a_stream_that_is_cut_before_it_has_text(self, server: Loopback, make: Make) -> None:
        server.script.append(streams([chat("")], cut=True))
        server.script.append(streams([]))
        assert collect(make().write(PROMPT, WriteOptions()))[0] == "The bell."

    @pytest.mark.parametrize(
        "event",
        ["{no", "[" * 100_000, "[1]", '{"choices": [7]}', b"\xff\xfe", '{"error": {"message": "oom"}}'],
    )
    def test_an_event_that_is_none(self, server: Loopback, make: Make, event: object) -> None:
        server.script.append(streams([event]))
        assert collect(make().write(PROMPT, WriteOptions()))[0] == "The bell."
        assert len(server.requests) == 2

    def test_retry_after_is_honoured(self, server: Loopback, make: Make) -> None:
        server.script.append(fails(429, Retry_After="0.4"))
        collect(make().write(PROMPT, WriteOptions()))
        assert server.times[1] - server.times[0] >= 0.4

    def test_a_pause_that_is_too_long_is_told(self, server: Loopback, make: Make) -> None:
        server.answer = fails(429, Retry_After=formatdate(time.time() + 500, usegmt=True))
        _, error = heard(make())
        assert isinstance(error, ServerStopped)
        assert "status 429: no; it asks to wait " in str(error)
        assert len(server.requests) == 1

    def test_pauses_grow(self, server: Loopback, make: Make) -> None:
        server.answer = fails(503)
        _, error = heard(make(backoff_s=0.1, retries=2))
        assert "status 503: no, 3 times; look whether it runs" in str(error)
        first, second = (
            later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)
        )
        assert first >= 0.075  # a quarter more or less, so that those who failed together do not return so
        assert second >= 0.15

    def test_money_that_has_run_out_does_not_come_back(self, server: Loopback, make: Make) -> None:
        server.answer = fails(429, "pay", code="insufficient_quota")
        assert isinstance(heard(make())[1], InputError)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("status", "remedy"),
        [
            (400, "mend what it names, or choose another --server-dialect"),
            (404, "give the address up to /v1, and a model or adapter that it has (--server-model)"),
            (413, "shorten the past story"),
            (422, "mend what it names"),
        ],
    )
    def test_a_refusal_is_final(self, server: Loopback, make: Make, status: int, remedy: str) -> None:
        server.answer = fails(status, "what was\nwrong")
        _, error = heard(make())
        assert type(error) is ServerRefused
        assert str(error).startswith(f"server {server.host}: status {status}: what was wrong; {remedy}")
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_nothing_goes_to_where_a_server_sends_us(self, server: Loopback, make: Make, status: int) -> None:
        with Loopback() as other:
            server.answer = fails(status, Location=f"{other.url}/chat/completions")
            assert "it sends us on to 127.0.0.1; give its own address" in str(heard(make())[1])
            assert other.requests == []

    def test_nobody_there(self, server: Loopback, make: Make) -> None:
        with Loopback() as other:
            gone = other.url
        text, error = heard(make(url=gone))
        assert text == ""
        assert isinstance(error, ServerStopped)
        assert "no connection, 3 times; look whether it runs" in str(error)

    @pytest.mark.parametrize("behaviour", [hangs, then_hangs(chat(""))], ids=["no status", "no text"])
    def test_no_first_token_in_time(self, server: Loopback, make: Make, behaviour: Any) -> None:
        server.answer = behaviour
        _, error = heard(make(first_token_s=1))
        assert "no text for 1 s; it may be overloaded" in str(error)
        assert len(server.requests) == 1
        assert server.gone.wait(5)

    def test_empty_events_are_no_sign_of_life(self, server: Loopback, make: Make) -> None:
        server.answer = streams(event for _ in range(1500) for event in (chat(""), 0.02))
        started = time.monotonic()
        assert "no text for 0.3 s" in str(heard(make(first_token_s=0.3))[1])
        assert time.monotonic() - started < 15


class TestAfterTheFirstPiece:
    @pytest.mark.parametrize(
        ("events", "reason"),
        [
            ([], "the connection was cut"),
            (["{no"], "the server sent something that is no JSON"),
            ([[1]], "the server sent an event that is no object"),
            ([{"error": {"message": "out of\nmemory"}}], "the server broke off: out of memory"),
        ],
        ids=["cut", "no JSON", "no object", "an error"],
    )
    def test_it_is_closed_told_and_not_begun_anew(
        self, server: Loopback, make: Make, events: list[object], reason: str
    ) -> None:
        server.script.append(streams([chat("A <action>b c <qu"), *events], cut=True))
        text, error = heard(make())
        assert text == "A <action>b c</action>"
        assert isinstance(error, ServerStopped)
        assert str(error) == (
            f"server {server.host}: broken off after 17 characters: {reason};"
            " keep what there is and go on from there"
        )
        assert len(server.requests) == 1

    def test_a_stream_that_ends_before_the_model(self, server: Loopback, make: Make) -> None:
        server.answer = streams([chat("A"), "[DONE]"])
        text, error = heard(make())
        assert (text, len(server.requests)) == ("A", 1)
        assert "the stream ended before the model did" in str(error)

    def test_slow_tokens(self, server: Loopback, make: Make) -> None:
        server.answer = then_hangs(chat("A "), chat("b"))
        text, error = heard(make(between_tokens_s=0.3))
        assert text == "A b"
        assert "no further text for 0.3 s" in str(error)
        assert server.gone.wait(5)

    @pytest.mark.parametrize("begun", [[chat("A ")], [chat("A "), chat("", "stop")]])
    def test_empty_events_do_not_keep_it_waiting(
        self, server: Loopback, make: Make, begun: list[Any]
    ) -> None:
        def answer(handler: Any, _: Any) -> None:
            handler.begin()
            for event in [*begun, *[chat("")] * 300]:
                if not handler.event(event):
                    return
                time.sleep(0.05)

        server.answer = answer
        before, generator = time.monotonic(), make(between_tokens_s=0.3)
        if len(begun) == 1:
            text, error = heard(generator)
            assert "no further text" in str(error)
        else:
            text, _ = collect(generator.write(PROMPT, WriteOptions()))
        assert time.monotonic() - before < 10
        assert text.strip() == "A"

    def test_a_slow_reader_is_not_a_slow_server(self, server: Loopback, make: Make) -> None:
        server.answer = streams([chat("a "), chat("b "), chat("c"), chat("", "stop"), "[DONE]"])
        text = ""
        for piece in make(between_tokens_s=0.2).write(PROMPT, WriteOptions()):
            time.sleep(0.3)
            text += piece if isinstance(piece, str) else ""
        assert text == "a b c"

    def test_more_than_was_asked_for(self, server: Loopback, make: Make) -> None:
        server.answer = then_hangs(*(chat("word " * 100) for _ in range(20)))
        text, error = heard(make(), WriteOptions(max_tokens=20))
        assert "does not keep to max_tokens" in str(error)
        assert 0 < len(text) < 2000
        assert server.gone.wait(5)


class TestCancelling:
    @pytest.mark.parametrize(
        ("behaviour", "connected"),
        [(hangs, True), (then_hangs(chat("A <action>b")), True), (fails(429, Retry_After="30"), False)],
        ids=["before the status", "between tokens", "in a pause"],
    )
    def test_the_server_notices(self, server: Loopback, make: Make, behaviour: Any, connected: bool) -> None:
        server.answer = behaviour
        stop = threading.Event()

        def leave() -> None:
            while not server.requests:
                time.sleep(0.01)
            time.sleep(0.3)
            stop.set()

        threading.Thread(target=leave, daemon=True).start()
        started = time.monotonic()
        text, ending = collect(make().write(PROMPT, WriteOptions(), stop.is_set))
        assert time.monotonic() - started < 10
        assert ending.reason == "cancelled"
        assert text in ("", "A <action>b</action>")
        assert not connected or server.gone.wait(5)
        assert len(server.requests) == 1

    def test_cancelled_from_the_beginning(self, server: Loopback, make: Make) -> None:
        text, ending = collect(make().write(PROMPT, WriteOptions(), lambda: True))
        assert (text, ending.reason, ending.usage) == (
            "",
            "cancelled",
            Usage(reuse_known=False, queue_seconds=None),
        )
        assert server.requests == []

    def test_no_thread_is_left(self, server: Loopback, make: Make) -> None:
        server.answer = then_hangs(chat("A"))
        pieces = make().write(PROMPT, WriteOptions())
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "spellbound-answer"]


BAD_SETTINGS = [
    (
        {"url": "127.0.0.1:8000"},
        "'127.0.0.1:8000' is no address of a server; give one as http://127.0.0.1:8000/v1",
    ),
    ({"url": "ftp://host/v1"}, "is no address of a server"),
    ({"url": "http://"}, "is no address of a server"),
    ({"url": "http://host:99999/v1"}, "the server's address cannot be read"),
    ({"url": "http://exam\u00adple.de/v1"}, "the server's address cannot be read"),
    ({"url": "http://host\n/v1"}, "the server's address cannot be read"),
    ({"url": "http://host/\ud800"}, "the server's address cannot be read"),
    ({"url": "http://[broken/v1"}, "the server's address cannot be read"),
    ({"url": f"http://me:{KEY}@host/v1"}, "the address of server host holds a name, a password"),
    ({"url": f"http://host/v1?key={KEY}"}, "the address of server host holds a name, a password"),
    ({"api": "responses"}, "server api 'responses' is unknown; give one of chat, completions"),
    (
        {"dialect": "tgi"},
        "server dialect 'tgi' is unknown; give one of vllm, vllm-xgrammar",
    ),
    ({"first_token_s": 0}, "server first_token_s is 0; give seconds above 0"),
    ({"between_tokens_s": float("inf")}, "server between_tokens_s is inf"),
    ({"retries": -1}, "server retries is -1; give 0 or more"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_SETTINGS)
def test_settings_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        ServerSettings(**{"url": "http://127.0.0.1:8000/v1", **changes})
    assert message in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "date", "seconds"),
    [
        (None, None, None),
        ("", None, None),
        ("3", None, 3.0),
        ("1.5", None, 1.5),
        ("-3", None, 0.0),
        ("nan", None, None),
        ("soon", None, None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", None, 90.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "Thu, 01 Jan 1970 00:01:35 GMT", 5.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", None, 0.0),
    ],
)
def test_retry_after(said: str | None, date: str | None, seconds: float | None) -> None:
    assert waiting_time(said, date, 10.0) == seconds


@pytest.mark.parametrize(
    "usage", [None, [], {"prompt_tokens": -1}, {"prompt_tokens": "7"}, {"prompt_tokens": True}]
)
def test_numbers_that_cannot_be(usage: object) -> None:
    event = read_event({"choices": [], "usage": usage})
    assert getattr(event, "prompt_tokens", 0) is None


def test_llama_cpps_grammar_says_the_same() -> None:
    """Judged by xgrammar, which reads that notation; one token a byte, and one to end."""
    xgrammar = pytest.importorskip(
        "xgrammar", reason="xgrammar is not installed: pip install 'xgrammar>=0.2.8'"
    )
    vocabulary = [*(bytes([byte]) for byte in range(256)), b"<end>"]
    info = xgrammar.TokenizerInfo(
        vocabulary, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=[256]
    )
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def verdict(text: str, rules: str) -> str:
        matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(rules))
        if not all(matcher.accept_token(byte) for byte in text.encode()):
            return "rejected"
        return "accepted" if matcher.accept_token(256) else "unfinished"

    found = {text: verdict(text, gbnf(tuple(CAST_IDS))) for text in [*ACCEPTED, *REJECTED, *UNFINISHED]}
    expected = dict.fromkeys(ACCEPTED, "accepted") | dict.fromkeys(REJECTED, "rejected")
    assert found == expected | dict.fromkeys(UNFINISHED, "unfinished")
    assert verdict("a", gbnf((), tags=False)) == verdict("", gbnf((), tags=False)) == "accepted"
    assert verdict("<action>", gbnf(tuple(CAST_IDS), tags=False)) == "rejected"
    assert verdict('<quote speaker="32AN4R">', gbnf(())) == "rejected"


def test_xgrammar_does_not_take_the_grammar_for_llguidance() -> None:
    """Why vLLM has two dialects: what it makes of a Lark grammar for xgrammar keeps the expression."""
    xgrammar = pytest.importorskip(
        "xgrammar", reason="xgrammar is not installed: pip install 'xgrammar>=0.2.8'"
    )
    rules = (line.split(":", 1) for line in grammar(CAST).splitlines())
    converted = "\n".join(["root ::= start", *(f"{name} ::= {rule}" for name, rule in rules)])
    with pytest.raises(RuntimeError, match="Unexpected character: /"):
        xgrammar.Grammar.from_ebnf(converted)


def test_names_in_llama_cpps_grammar_have_no_underscores() -> None:
    outside_literals = "".join(json.dumps(part) for part in gbnf(CAST).split('"')[::2])
    assert "_" not in outside_literals
