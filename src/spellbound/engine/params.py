"""What the sampler is asked for: a small, frozen, self-checking record."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spellbound.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen, and for how long.

    The same parameters, prompt, model and machine give the same tokens.
    """

    temperature: float = 0.8
    """0 takes the likeliest token every time; 1 samples from the model's own distribution."""
    top_p: float = 1.0
    """Keep the likeliest tokens that together reach this probability, in (0, 1]."""
    min_p: float = 0.05
    """Keep tokens at least this likely relative to the likeliest one, in [0, 1)."""
    repetition_penalty: float = 1.0
    """Logits of recently written tokens are divided (negative ones multiplied) by this, in [1, 10]."""
    repetition_window: int = 64
    """How many of the last written tokens count as recent."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens before anything else; from -100 to 100 each."""
    seed: int = 0
    """Of the random generator, in [0, 2**63)."""
    max_tokens: int = 1024
    """At most this many tokens are written."""

    def __post_init__(self) -> None:
        """Refuse a value outside its range."""
        _within("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "from 0 to 100")
        _within("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0 and at most 1")
        _within("min_p", self.min_p, 0.0 <= self.min_p < 1.0, "from 0 to below 1")
        _within(
            "repetition_penalty",
            self.repetition_penalty,
            1.0 <= self.repetition_penalty <= 10.0,
            "from 1 to 10",
        )
        _within("repetition_window", self.repetition_window, self.repetition_window >= 0, "0 or more")
        _within("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2**63 - 1")
        _within("max_tokens", self.max_tokens, self.max_tokens >= 1, "1 or more")
        for token, bias in self.logit_bias.items():
            _within(f"the logit_bias of token {token}", bias, -100.0 <= bias <= 100.0, "from -100 to 100")
        for name in ("repetition_window", "seed", "max_tokens"):
            _within(name, getattr(self, name), isinstance(getattr(self, name), int), "without a fraction")


def _within(name: str, value: float, valid: bool, allowed: str) -> None:
    """Raise an error that names the parameter, its value and what is allowed."""
    if not valid:
        raise InputError(f"{name} is {value}; give a number {allowed}")
