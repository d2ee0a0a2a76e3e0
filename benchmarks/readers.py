"""Everybody who reads tokens and predicts the next, behind one small face, so that all are timed alike.

V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol, Self

import torch
from torch import Tensor

from benchmarks.configs import our_model
from benchmarks.machine import named
from benchmarks.measure import Settings


class Reader(Protocol):
    """A model with a memory of what it has read."""

    version: str

    def restart(self) -> None:
        """Forget everything."""

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read on; return the logits (V) after the last token."""


class OurReader:
    """Our model with its state."""

    def __init__(self, config: str, dtype: torch.dtype) -> None:
        self.model = our_model(config, dtype)
        self.version = named("spellbound")
        self.restart()

    def restart(self) -> None:
        """Begin with an empty state."""
        self.state = self.model.new_state(1)

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read on from the state."""
        output = self.model(torch.tensor([tokens]), state=self.state, logits_to_keep=1)
        logits: Tensor = output.logits[0, -1]
        return logits


def open_reader(name: str, config: str, settings: Settings) -> Reader:
    """Return the reader of that name: "ours fp32", "transformers", "llama.cpp F16" and so on."""
    return _OPENERS[name](config, settings)


def greedy(reader: Reader, token: int, steps: int) -> int:
    """Read ``token`` and then what the reader itself finds likeliest, one token at a time."""
    for _ in range(steps):
        token = int(reader.read([token]).argmax())
    return token


def _transformers(mambapy: bool) -> Callable[[str, Settings], Reader]:
    def opened(config: str, settings: Settings) -> Reader:
        from benchmarks.peers.hf import TransformersReader

        return TransformersReader(config, mambapy=mambapy)

    return opened


def _llama(quantization: str, batch: int = 512) -> Callable[[str, Settings], Reader]:
    def opened(config: str, settings: Settings) -> Reader:
        from benchmarks.peers.llama import LlamaReader

        return LlamaReader(config, quantization, settings, batch=batch)

    return opened


_OPENERS: dict[str, Callable[[str, Settings], Reader]] = {
    "ours fp32": lambda config, _: OurReader(config, torch.float32),
    "ours bf16": lambda config, _: OurReader(config, torch.bfloat16),
    "transformers": _transformers(False),
    "transformers + mambapy": _transformers(True),
    "llama.cpp F32": _llama("F32"),
    "llama.cpp F32, batch 2048": _llama("F32", 2048),
    "llama.cpp F16": _llama("F16"),
    "llama.cpp Q8_0": _llama("Q8_0"),
}


@dataclass(frozen=True)
class Agreement:
    """How far the logits of two readers lie apart, relative to the largest, over several tokens.

    The median judges: a rounding may send a single token to another expert, in any implementation.
    """

    median: float
    worst: float

    @classmethod
    def of(cls, reader: Reader, other: Reader, prompt: Sequence[int], single: Sequence[int]) -> Self:
        """Let both read the same: a prompt at once, then tokens one by one."""
        for one in (reader, other):
            one.restart()
        pieces = [prompt, *([token] for token in single)]
        apart = [_apart(reader.read(piece), other.read(piece)) for piece in pieces]
        return cls(median(apart), max(apart))


def _apart(logits_V: Tensor, expected_V: Tensor) -> float:
    return float((logits_V.float() - expected_V.float()).abs().max() / expected_V.float().abs().max())
