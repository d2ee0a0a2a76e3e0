"""How a teacher is asked: which model, how often, for how much money, and where its answers are kept."""

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import TypeAdapter, ValidationError

from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import words_of

AnswerFormat = Literal["auto", "json_schema", "json_object", "text"]
FORMATS: tuple[AnswerFormat, ...] = ("json_schema", "json_object", "text")
"""How a server can be made to answer in JSON, strictest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """A model behind an OpenAI-compatible server, and the limits that hold while it is asked.

    The key itself is never a setting: it is read from the environment and goes nowhere but to the server.
    """

    model: str
    """As the server calls it."""
    cache: Path
    """Folder of `teacher.sqlite`: every answer, so that none is paid twice, and what they have cost."""
    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; empty for a server that needs none."""
    concurrency: int = 8
    """Requests under way at once."""
    requests_per_minute: float = 0
    """0: no limit."""
    tokens_per_minute: float = 0
    """Of prompts and answers together; 0: no limit."""
    input_price: float = 0
    """Per million tokens, in any currency."""
    output_price: float = 0
    """Per million tokens, in the same currency."""
    cost_limit: float = 0
    """Stop before all that this cache has paid for would exceed it; 0: no limit."""
    answer_tokens: int = 4096
    """Longest answer, in tokens; one that is cut off is asked for again, shorter."""
    attempts: int = 3
    """Answers to one question, each after the first with the faults of the one before explained."""
    retries: int = 6
    """Further tries of one request when the server fails or is busy."""
    longest_wait_s: float = 120
    """Longest pause before a try, in seconds; a server that asks for more ends the run."""
    timeout_s: float = 300
    """Without a byte from the server, in seconds; a whole answer may take four times as long."""
    temperature: float | None = None
    """None: the server's own; some models take no other."""
    seed: int = 0
    """Sent to the server, and of the pauses' jitter."""
    send_seed: bool = True
    """False for a server that takes no seed."""
    answer_format: AnswerFormat = "auto"
    """`auto` begins with `json_schema` and steps down, and says so, if the server refuses it."""
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """What the server calls `answer_tokens`."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the remedy."""
        object.__setattr__(self, "cache", Path(self.cache))
        self._check_server()
        at_least: dict[str, float] = {"concurrency": 1, "attempts": 1, "answer_tokens": 16}
        at_least |= dict.fromkeys(("requests_per_minute", "tokens_per_minute", "retries"), 0)
        at_least |= dict.fromkeys(("input_price", "output_price", "cost_limit", "longest_wait_s"), 0)
        for name, least in at_least.items():
            if not least <= getattr(self, name) < float("inf"):
                raise InputError(f"teacher: {name} is {getattr(self, name)}; give at least {least:g}")
        if not 0 < self.timeout_s < float("inf"):
            raise InputError(f"teacher: timeout_s is {self.timeout_s}; give seconds, as 300")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise InputError(f"teacher: temperature is {self.temperature}; give a number from 0 to 2")
        if self.answer_format not in ("auto", *FORMATS):
            raise InputError(
                f"teacher: answer_format {self.answer_format!r} is unknown; use auto or {', '.join(FORMATS)}"
            )
        if self.limit_field not in ("max_completion_tokens", "max_tokens"):
            raise InputError(
                f"teacher: limit_field {self.limit_field!r} is unknown; "
                "use max_completion_tokens or max_tokens"
            )
        if self.cost_limit and not (self.input_price or self.output_price):
            raise InputError(
                f"teacher: cost_limit is {self.cost_limit:g} but no price is known; "
                "give input_price and output_price per million tokens"
            )

    def _check_server(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or not _has_port(url):
            raise InputError(
                f"teacher: base_url {url.scheme + '://' + (url.hostname or '')!r} is no address of a server; "
                "give one as https://api.openai.com/v1"
            )
        if url.username or url.password or url.query:
            raise InputError(
                f"teacher: base_url of {url.hostname} holds a name, a password or a query; leave them out "
                "and put the key into the environment variable that key_variable names"
            )
        if not self.model:
            raise InputError("teacher: model is empty; give the name of a model that the server has")

    @classmethod
    def of(cls, values: dict[str, Any], place: str = "teacher") -> Self:
        """Take settings by name; InputError for unknown or missing names and wrong types."""
        kinds = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(set(values) - set(kinds)):
            raise InputError(f"{place}: setting {unknown[0]!r} is unknown; use {', '.join(kinds)}")
        checked = {name: _typed(f"{place}: {name}", kinds[name], value) for name, value in values.items()}
        if missing := [name for name in ("model", "cache") if name not in values]:
            raise InputError(f"{place}: setting {missing[0]!r} is missing; add it")
        return cls(**checked)

    def key(self) -> str:
        """Return the key from the environment; EnvironmentFault if it is not there."""
        if not self.key_variable:
            return "none"
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise EnvironmentFault(
                f"teacher: the environment variable {self.key_variable} is not set, and the server of "
                f"{self.model} may need a key: export {self.key_variable}=... (key_variable = '' for none)"
            )
        if not key.isascii() or not key.isprintable():
            raise EnvironmentFault(
                f"teacher: {self.key_variable} holds characters that no key has; "
                f"export {self.key_variable}=..."
            )
        return key


def _has_port(url: SplitResult) -> bool:
    """Whether the port of an address, if it names one, is one."""
    try:
        return url.port != 0
    except ValueError:
        return False


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings; InputError if unreadable. A relative cache lies beside the file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give the teacher's settings") from None
    except ValueError as error:
        raise InputError(f"{path}: is not TOML: {error}; write lines as model = 'name'") from None
    if isinstance(table.get("cache"), str):
        table["cache"] = path.parent / table["cache"]
    return table


def _typed(place: str, kind: Any, value: object) -> Any:
    """Return the value as its annotated type; a number may come as text."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{place} is {value!r}: {error.errors()[0]['msg']}; mend it") from None
