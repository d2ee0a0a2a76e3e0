"""Records of the rating log: what a reader thought of one passage, and what use of it they agreed to.

Nobody can be recognised by a record: a reader is a key made by `spellbound.data.ratings.keys`.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    field_validator,
    model_validator,
)

from spellbound.data.fields import Language

UserKey = Annotated[str, StringConstraints(pattern=r"^u1-[0-9a-f]{32}$")]
"""What `user_key` makes: never a name or an address."""
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Version = Annotated[str, StringConstraints(min_length=1, max_length=100)]
"""Version of the text that a reader agreed to."""
Scope: TypeAlias = Literal["training", "evaluation", "publication"]
SCOPES: tuple[Scope, ...] = ("training", "evaluation", "publication")
SCALES = ("unit", "thumbs", *(f"stars-{most}" for most in range(2, 11)))


def _known_scale(scale: str) -> str:
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r:.40}; give unit, thumbs or stars-2 to stars-10")
    return scale


Scale = Annotated[str, AfterValidator(_known_scale)]
"""How it was asked: `unit` 0 to 1, `thumbs` 0 or 1, `stars-N` 1 to N, half stars allowed."""


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone; add one, for instance +00:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{time.isoformat()} is outside the years 1 to 9999; mend it") from None


Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    PlainSerializer(datetime.isoformat, return_type=str),
]
"""A time with its zone; kept in UTC, written as ISO 8601."""

FlagKind: TypeAlias = Literal[
    "wrong speaker",
    "out of character",
    "contradiction",
    "repetition",
    "ignores the instruction",
    "wrong language",
    "broken tags",
    "dull",
    "harmful",
]
FLAGS: tuple[FlagKind, ...] = (
    "wrong speaker",
    "out of character",
    "contradiction",
    "repetition",
    "ignores the instruction",
    "wrong language",
    "broken tags",
    "dull",
    "harmful",
)


def normalised(raw: float, scale: str) -> float:
    """Return a rating between 0 and 1; ValueError for one that the scale does not have."""
    if _known_scale(scale).startswith("stars-"):
        stars = int(scale.removeprefix("stars-"))
        if not (1 <= raw <= stars and 2 * raw % 1 == 0):
            raise ValueError(f"raw is {raw:g} of {scale}; give 1 to {stars} in steps of a half")
        return (raw - 1) / (stars - 1)
    if scale == "thumbs" and raw not in (0, 1):
        raise ValueError(f"raw is {raw:g} of thumbs; give 1 for up and 0 for down")
    if not 0 <= raw <= 1:
        raise ValueError(f"raw is {raw:g} of {scale}; give 0 to 1")
    return float(raw)


class Flag(BaseModel):
    """Something wrong at one place of an output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FlagKind
    line: Annotated[int, Field(ge=1)] | None = None
    """Line of the output, from 1."""
    span: tuple[int, int] | None = None
    """Start and end in the output, in code points."""

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.line is None and self.span is None:
            raise ValueError(f"flag {self.kind!r} has no place; give line or span")
        if self.span is not None and not 0 <= self.span[0] < self.span[1]:
            raise ValueError(f"span is {self.span}; give a start and a later end")
        return self


class Rating(BaseModel):
    """What one reader thought of one passage, at one time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    story: Identifier
    branch: Identifier
    passage: Identifier
    """Passages that were written in one another's place have ids of their own."""
    prompt: str
    """The prompt's text, as the model got it."""
    output: str
    """What the model wrote, in markup."""
    language: Language = ""
    model: Identifier
    adapter: str = ""
    """Empty if none was on."""
    score: Annotated[float, Field(ge=0, le=1)]
    """`raw` between 0 worst and 1 best; worked out if it is not given."""
    raw: Annotated[float, Field(allow_inf_nan=False)]
    scale: Scale
    flags: tuple[Flag, ...] = ()
    user: UserKey
    consent: Version
    """Version of the consent it was given under."""
    scopes: tuple[Scope, ...]
    """What that consent allowed."""
    time: Moment

    @model_validator(mode="before")
    @classmethod
    def _work_out_the_score(cls, row: Any) -> Any:
        if isinstance(row, dict) and row.get("score") is None and {"raw", "scale"} <= row.keys():
            try:
                return {**row, "score": normalised(float(row["raw"]), str(row["scale"]))}
            except (TypeError, ArithmeticError):
                return row  # the fields' own checks say what is wrong
        return row

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if abs(normalised(self.raw, self.scale) - self.score) > 1e-6:
            raise ValueError(
                f"score is {self.score:g}, but {self.raw:g} of {self.scale} is"
                f" {normalised(self.raw, self.scale):g}; leave score out"
            )
        lines = self.output.count("\n") + 1
        for flag in self.flags:
            if flag.line is not None and flag.line > lines:
                raise ValueError(f"flag {flag.kind!r} is at line {flag.line} of an output of {lines}")
            if flag.span is not None and flag.span[1] > len(self.output):
                raise ValueError(
                    f"flag {flag.kind!r} ends at {flag.span[1]} of {len(self.output)} characters"
                )
        return self


class Consent(BaseModel):
    """A reader agreed to a use of their ratings, or took that back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["given", "withdrawn"]
    user: UserKey
    version: Version | None = None
    """Of the text agreed to; None in a withdrawal, which ends every version."""
    scopes: tuple[Scope, ...]
    """Uses that are allowed, or no longer allowed."""
    time: Moment
    revives: bool = False
    """Given only: the reader asks that ratings which a withdrawal had ended be used again."""

    @field_validator("scopes")
    @classmethod
    def _has_scopes(cls, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        if not scopes:
            raise ValueError(f"scopes is empty; give some of {', '.join(SCOPES)}")
        return scopes

    @model_validator(mode="after")
    def _agrees_with_its_kind(self) -> Self:
        if self.event == "given" and self.version is None:
            raise ValueError("version is missing; say which text was agreed to")
        if self.event == "withdrawn" and self.revives:
            raise ValueError("revives is true in a withdrawal; leave it out")
        return self


def now() -> datetime:
    """Return this moment in UTC."""
    return datetime.now(UTC)
