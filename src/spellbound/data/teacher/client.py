"""The teacher: asks a model behind a server, keeps every answer, waits, retries, stays within its limits."""

import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, Self

from spellbound.data.teacher.limits import RateLimit
from spellbound.data.teacher.questions import (
    Answer,
    FormT,
    Message,
    Question,
    body_of,
    key_of,
    most_tokens,
    read_answer,
)
from spellbound.data.teacher.replies import Failure, Reply, TeacherStopped
from spellbound.data.teacher.server import Server
from spellbound.data.teacher.settings import FORMATS, AnswerFormat, TeacherSettings
from spellbound.data.teacher.store import Store
from spellbound.data.teacher.usage import Usage
from spellbound.errors import EnvironmentFault, InputError

_FIRST_PAUSE_S = 0.5
_DECLINED = frozenset({"content_filter", "content_policy_violation"})
"""Codes of a request that the server will not have answered: a refusal of this passage, not of all."""


class Teacher:
    """A model that is asked questions. Safe between threads; close it, or use it as a context.

    `sleep` and `clock` (seconds) are those of the system unless others are given.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        *,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the store and make the client ready; EnvironmentFault if key or package is missing."""
        self.settings = settings
        self.usage = Usage()
        self._server = Server(settings)
        self._store = Store(settings.cache)
        # Annotators made by name belong to nobody who would close them.
        self._end = weakref.finalize(self, _close, self._server, self._store)
        self._limit = RateLimit(settings.requests_per_minute, settings.tokens_per_minute, clock)
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._places = threading.BoundedSemaphore(settings.concurrency)
        self._under_way: dict[str, Future[Reply]] = {}
        self._lock = threading.Lock()
        self._format: AnswerFormat = (
            FORMATS[0] if settings.answer_format == "auto" else settings.answer_format
        )

    def ask(self, question: Question[FormT]) -> Answer[FormT]:
        """Ask until an answer is right or the attempts are used up; give the one with the fewest faults.

        Raises TeacherStopped at a limit or when the server stays away, InputError if it refuses the request.
        """
        messages = question.messages
        best: Answer[FormT] | None = None
        for attempt in range(self.settings.attempts):
            reply = self._reply(question, messages)
            answer = read_answer(question, reply)
            if best is None or _worth(answer) > _worth(best):
                best = answer
            if not answer.faults:
                break
            messages = _explained(messages, reply, answer.faults)
            self.usage.add(explained=attempt + 1 < self.settings.attempts)
        assert best is not None  # noqa: S101 - there is at least one attempt
        self.usage.add(refused=bool(best.faults))
        return best

    def ask_all(self, questions: Sequence[Question[FormT]]) -> list[Answer[FormT]]:
        """Ask several questions at once; the answers are in the order of the questions.

        At the first error no further one is asked; those under way still end and are kept.
        """
        if len(questions) < 2:
            return [self.ask(question) for question in questions]
        with ThreadPoolExecutor(min(len(questions), self.settings.concurrency)) as pool:
            asked = [pool.submit(self.ask, question) for question in questions]
            try:
                done, _ = wait(asked, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                self._stop.clear()
                raise
        return [one.result() for one in asked]

    def spent(self) -> float:
        """Return what the cache's folder has paid for in all its runs."""
        return self._store.spent()

    def close(self) -> None:
        """Close connections and store."""
        self._end()

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close connections and store."""
        self.close()

    def _reply(self, question: Question[FormT], messages: tuple[Message, ...]) -> Reply:
        """Return the kept answer of a request, or that of the same one under way, or ask."""
        key = key_of(question, messages, self.settings)
        with self._lock:
            known = self._under_way.get(key)
            if known is None:
                mine = self._under_way[key] = Future[Reply]()
        if known is not None:
            reply = known.result()
            self.usage.add(cached=1)
            return reply
        try:
            reply = self._kept_or_called(key, question, messages)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(reply)
            return reply
        finally:
            with self._lock:
                del self._under_way[key]

    def _kept_or_called(self, key: str, question: Question[FormT], messages: tuple[Message, ...]) -> Reply:
        kept = self._store.find(key)
        if kept is not None:
            self.usage.add(cached=1)
            return kept
        chance = random.Random(f"{self.settings.seed} {key}")
        tries = 0
        while True:
            form = self._format
            with self._places:
                answer = self._call(key, body_of(question, messages, self.settings, form))
            if isinstance(answer, Reply):
                return answer
            if answer.code in _DECLINED:
                return Reply(refusal=answer.code)
            if self._stepped_down(form, answer):
                continue
            tries += 1
            self._wait_for_next(answer, tries, chance)

    def _call(self, key: str, body: dict[str, Any]) -> Reply | Failure:
        """Make one call within all limits and write what came of it, before anybody sees it."""
        most = most_tokens(body, self.settings)
        likely = most[0] // 3 + most[1]
        while pause := self._limit.take(likely):
            self._pause(pause)
        self._refuse_if_stopped()
        call = self._store.reserve(self._price(*most), self.settings.cost_limit)
        if call is None:
            raise self._too_dear(self._price(*most))
        answer = self._server.ask(body, most)
        if isinstance(answer, Reply):
            cost = self._price(answer.input_tokens, answer.output_tokens)
            self._store.settle(call, cost, key, answer)
            # No more than was possible, whatever it says: the wait for it could have no end.
            self._limit.give_back(likely - min(answer.input_tokens + answer.output_tokens, sum(most)))
            tokens = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
            self.usage.add(calls=1, cost=cost, **tokens)
        elif answer.perhaps_paid:
            self._store.settle(call, self._price(*most))
            self.usage.add(perhaps_paid=1, cost=self._price(*most))
        else:
            self._store.release(call)
        return answer

    def _wait_for_next(self, failure: Failure, tries: int, chance: random.Random) -> None:
        """Pause before the next try; raise if there is none."""
        if not failure.again:
            raise _refused(failure, self.settings)
        if tries > self.settings.retries:
            raise self._stopped(f"gave no answer in {tries} tries, the last time: {failure.reason}")
        longest = self.settings.longest_wait_s
        if failure.wait_s is not None and failure.wait_s > longest:
            raise self._stopped(
                f"asks to wait {failure.wait_s:.0f} s, more than longest_wait_s ({longest:g})"
            )
        pause = min(longest, _FIRST_PAUSE_S * 2 ** (tries - 1)) * (0.5 + chance.random() / 2)
        if failure.wait_s is not None:
            self._limit.hold(failure.wait_s)
            pause = failure.wait_s
        self.usage.add(retried=1)
        self._pause(pause)

    def _stepped_down(self, form: AnswerFormat, failure: Failure) -> bool:
        """Try a less strict way to have JSON if the server refuses this one, and say so."""
        said = failure.reason.lower()
        if (
            self.settings.answer_format != "auto"
            or failure.status not in (400, 422, 501)
            or not any(word in said for word in ("response_format", "json_schema", "json_object"))
            or form == FORMATS[-1]
        ):
            return False
        with self._lock:
            if self._format == form:
                self._format = FORMATS[FORMATS.index(form) + 1]
        self.usage.notice(f"the server refuses answers as {form}; asked for {self._format} instead")
        return True

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self._refuse_if_stopped()

    def _refuse_if_stopped(self) -> None:
        if self._stop.is_set():
            raise self._stopped("is asked no further")

    def _stopped(self, why: str) -> TeacherStopped:
        return TeacherStopped(
            f"teacher: {self.settings.model} {why}; what was answered is kept in {self.settings.cache}: "
            "run the same command again"
        )

    def _too_dear(self, price: float) -> TeacherStopped:
        asked = f"{self.usage.calls:,} calls and {self.usage.cached:,} answers from the cache"
        return TeacherStopped(
            f"teacher: stopped before the cost limit of {self.settings.cost_limit:g}, after {asked}: "
            f"{self.spent():.4f} is spent or under way and the next call may cost {price:.4f}; what was "
            f"answered is kept in {self.settings.cache}: raise cost_limit and run again"
        )

    def _price(self, input_tokens: int, output_tokens: int) -> float:
        prices = self.settings
        return (input_tokens * prices.input_price + output_tokens * prices.output_price) / 1e6


def _close(server: Server, store: Store) -> None:
    server.close()
    store.close()


def _worth(answer: Answer[FormT]) -> tuple[bool, int]:
    return answer.value is not None, -len(answer.faults)


def _explained(messages: tuple[Message, ...], reply: Reply, faults: tuple[str, ...]) -> tuple[Message, ...]:
    """Go on with a conversation: what was answered, and what is wrong with it."""
    listed = "\n".join(f"- {fault}" for fault in faults)
    told = f"This cannot be used:\n{listed}\nGive the whole answer once more, with this mended."
    if reply.content.strip():
        return (*messages, ("assistant", reply.content), ("user", told))
    # Templates of many models refuse two messages of the user in a row.
    return (*messages[:-1], (messages[-1][0], f"{messages[-1][1]}\n\n{told}"))


def _refused(failure: Failure, settings: TeacherSettings) -> Exception:
    """Say what to mend when a server will not take a request however often it is sent."""
    what = f"teacher: the server refuses {settings.model} with {failure.reason}"
    match failure.status:
        case 401 | 403:
            return EnvironmentFault(
                f"{what}; set a key that may use it: export {settings.key_variable or 'OPENAI_API_KEY'}=..."
            )
        case 404:
            return InputError(f"{what}; give a model and a base_url that exist")
        case 301 | 302 | 303 | 307 | 308:
            return InputError(f"{what}; give its own address as base_url, if it may have the stories")
        case 429:
            return TeacherStopped(
                f"{what}; add credit there and run the same command again: what was answered is kept in "
                f"{settings.cache}"
            )
    return InputError(f"{what}; change the teacher's settings")
