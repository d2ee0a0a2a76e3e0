"""What a server answers, event by event, as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from spellbound.story.completion import Likely, Scored

_LEAST = -9999.0  # what OpenAI sends for a probability of nothing, which JSON cannot spell
_BYTES = "bytes:"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of the stream."""

    text: str = ""
    finish: str = ""
    """Why the model stopped, in the server's words; empty while it goes on."""
    scores: tuple[Scored, ...] = ()
    """Of the tokens that the text has, where they were asked for."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer, or no more of it."""

    reason: str
    """In words, without the key."""
    status: int = 0
    """HTTP status; 0 where there was none."""
    code: str = ""
    """The server's own, where it has one."""
    again: bool = False
    """Whether another try may succeed."""
    wait_s: float | None = None
    """What the server asked for."""


Item = Chunk | Failure


def read_event(event: object) -> Item:
    """Read one event of a stream of either API; a Failure if it is none."""
    if not isinstance(event, Mapping):
        return Failure("the server sent an event that is no object", again=True)
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(first, Mapping):
        return Failure("the server sent a choice that is no object", again=True)
    delta = first.get("delta")
    text = first.get("text") if "text" in first else member(delta, "content")
    prompt, cached, written = _tokens(event)
    return Chunk(
        text=_whole(text) if isinstance(text, str) else "",
        finish=str(first.get("finish_reason") or ""),
        scores=tuple(_scores(first.get("logprobs"))),
        prompt_tokens=prompt,
        cached_tokens=cached,
        written_tokens=written,
    )


def _tokens(event: Mapping[str, object]) -> tuple[int | None, int | None, int | None]:
    """Return the tokens of the prompt, those of them that were not read again, and those written."""
    if isinstance(usage := event.get("usage"), Mapping):
        cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
        return _count(usage, "prompt_tokens"), cached, _count(usage, "completion_tokens")
    timings = event.get("timings")  # llama.cpp's, with every piece
    cached, read = _count(timings, "cache_n"), _count(timings, "prompt_n")
    prompt = None if cached is None or read is None else cached + read
    return prompt, cached, _count(timings, "predicted_n")


def _whole(text: str) -> str:
    """Replace half characters, which JSON can spell and nothing can show."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def member(value: object, name: str) -> object:
    """Return a member of a JSON object; None if it has none, or is none."""
    return value.get(name) if isinstance(value, Mapping) else None


def _count(value: object, name: str) -> int | None:
    """A number of tokens, or None for what cannot be one."""
    number = member(value, name)
    return number if type(number) is int and number >= 0 else None


def _scores(logprobs: object) -> Iterable[Scored]:
    """Read log-probabilities, in the form of chats or in that of completions."""
    if content := _list(member(logprobs, "content")):
        for each in content:
            likeliest = _list(member(each, "top_logprobs"))
            yield Scored(_of_chat(each), tuple(_of_chat(other) for other in likeliest))
        return
    tops = _list(member(logprobs, "top_logprobs"))
    for place, token in enumerate(_list(member(logprobs, "tokens"))):
        values = _list(member(logprobs, "token_logprobs"))
        top = tops[place] if place < len(tops) else None
        others = top.items() if isinstance(top, Mapping) else ()
        chosen = _likely(token, values[place] if place < len(values) else None)
        yield Scored(chosen, tuple(_likely(name, value) for name, value in others))


def _of_chat(entry: object) -> Likely:
    given = [each for each in _list(member(entry, "bytes")) if type(each) is int and 0 <= each < 256]
    return replace(_likely(member(entry, "token"), member(entry, "logprob")), data=bytes(given))


def _likely(token: object, logprob: object) -> Likely:
    """A token by its spelling; which one it is no server says."""
    text = _whole(token) if isinstance(token, str) else ""
    data = text.encode()
    if text.startswith(_BYTES):
        data = bytes(int(digits, 16) for digits in text[len(_BYTES) :].split("\\x")[1:] if _is_byte(digits))
    value = (
        logprob if isinstance(logprob, int | float) and abs(logprob) < -_LEAST else _LEAST
    )  # not NaN either
    return Likely(-1, text, data, float(value))


def _is_byte(digits: str) -> bool:
    return len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
