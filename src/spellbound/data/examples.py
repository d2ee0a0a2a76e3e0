"""The one schema of a training example: what is asked, what answers it, and where both are from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from spellbound.data.fields import Checks, Language, Licence, Prompt, Provenance


class ExampleRating(BaseModel):
    """What readers said of the completion, if it was rated; nobody can be recognised by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: Annotated[float, Field(ge=0, le=1, strict=True)]
    """Mean score, 0 worst and 1 best."""
    count: Annotated[int, Field(ge=1, strict=True)] = 1
    """Ratings that the mean is of."""
    consent: str = ""
    """Version of the consent that the ratings were given under."""


class Example(BaseModel):
    """One training row. Stored as a row of Parquet or a line of JSON with these very fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: Annotated[str, Field(min_length=1)]
    """Unique in a dataset and the same in every build."""
    prompt: Prompt
    completion: str
    """Markup that continues the prompt's past story."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0
    """How much each target token counts in the loss."""
    language: Language = ""
    source: str = ""
    """Id of the story or document it was cut from; what is held out is held out by it."""
    licence: Licence = ""
    provenance: Provenance
    checks: Checks = ()
    """Rules that the completion keeps and that can verify any other answer."""
    rating: ExampleRating | None = None
