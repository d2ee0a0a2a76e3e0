"""How many people can write at once: a model's config and some cards into bytes, tokens and users.

Arithmetic, not measurement: what must be read and computed, divided by what a card does at best and by the
share of it that is reached. What is assumed stands in `ASSUMPTIONS` or in the question, and is printed.
"""

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from spellbound.errors import InputError, ModelError

_GIB, _MIB, _KIB = 2**30, 2**20, 2**10
_WIDE, _HALF = 4, 2  # bytes: the scan's state is kept in float32, keys, values and the rest in bfloat16
_MOST_STREAMS = 4096
_COUNTED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "num_experts", "num_experts_per_tok", "attn_layer_period", "expert_layer_period"),
    *("mamba_expand", "mamba_d_state", "mamba_d_conv", "max_position_embeddings"),
)
RESERVE = 3 * _GIB
"""Of each card: libraries, and what computing a piece of a prompt takes."""
BUSY = 0.7
"""Share of the time that is planned for."""
ASSUMPTIONS = (
    "cards share weights, caches and work evenly, and talking to each other takes no time",
    "each token goes to experts of its own, evenly: many streams together read all of them",
    "a step reads weights and caches once, and computes while it reads",
    "prompts are read between steps, and slow the writing by the time that takes",
    "fewer bits are for experts, feed-forwards and attention; Mamba, embedding, head and router keep 16",
    f"libraries and activations take {RESERVE // _GIB} GiB of each card",
    f"{BUSY:.0%} of the time is planned for: with more, queues grow",
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card has, as its maker states it; memory as its driver offers it."""

    name: str
    memory: float
    """Bytes."""
    traffic: float
    """Bytes a second."""
    products: float
    """Dense bf16 operations a second."""


CARDS = {
    card.name: card
    for card in (
        Card(name="h200", memory=139 * _GIB, traffic=4.8e12, products=989e12),
        Card(name="h100", memory=79 * _GIB, traffic=3.35e12, products=989e12),
        Card(name="a100", memory=79 * _GIB, traffic=2.0e12, products=312e12),
    )
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model weighs, from its config alone."""

    experts: int
    """Numbers in all experts of all layers."""
    experts_each: float
    """Share of them that one token meets."""
    quantised: int
    """Numbers in dense feed-forwards and attention, which can also be kept in fewer bits."""
    others: int
    """Numbers in what always keeps 16 bits: Mamba, router, norms and the head."""
    embedding: int
    """Numbers of which a token reads one row; 0 where the head is the same weight."""
    keys_and_values: int
    """Bytes a token."""
    state: int
    """Bytes of the Mamba state, whatever the story's length."""
    scores: int
    """Operations for a token and each token before it, in all attention layers."""
    heads: int
    """Of keys and values: over more cards than these, they are kept more than once."""
    context: int

    @property
    def parameters(self) -> int:
        """Numbers in the whole model."""
        return self.experts + self.quantised + self.others + self.embedding

    @property
    def active(self) -> float:
        """Numbers that a token is multiplied with."""
        return self.experts * self.experts_each + self.quantised + self.others

    def bytes_of(self, bits: int, *, streams: int | None = None) -> float:
        """Bytes of the weights; with `streams`, of those that a step of so many tokens reads."""
        met = 1.0 if streams is None else 1 - (1 - self.experts_each) ** streams
        kept = self.others + (self.embedding if streams is None else 0)
        return _HALF * kept + bits / 8 * (self.quantised + met * self.experts)


@dataclass(frozen=True, kw_only=True)
class Question:
    """For which cards and which way of writing an answer is wanted."""

    card: str = "h200"
    cards: int = 1
    memory: float | None = None
    """GiB of one card, in place of the stated ones."""
    bits: int = 16
    """Of the weights that can be kept in fewer."""
    story: int = 32_768
    """Tokens that a story has."""
    turn: int = 1_000
    """Tokens that a turn adds before the model writes: what was changed, the instruction."""
    written: int = 500
    """Tokens that the model writes in a turn."""
    minutes: float = 3.0
    """From one turn of a user to the next."""
    speed: float = 10.0
    """Least tokens a second for each who waits; a fast reader takes in about 6."""
    snapshots: int = 2
    """Mamba states kept of each story, beside its keys and values."""
    efficiency: float = 0.4
    """Share of a card's stated rates that is reached."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, with the remedy."""
        if self.card not in CARDS:
            raise InputError(f"card {self.card!r:.40} is not known; give one of {', '.join(CARDS)}")
        if self.bits not in (4, 8, 16):
            raise InputError(f"bits is {self.bits}; give 4, 8 or 16")
        for name in ("cards", "story", "turn", "written", "snapshots"):
            if not 1 <= getattr(self, name) <= 2**40:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("minutes", "speed", "memory"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise InputError(f"{name} is {value}; give a number above 0")
        if not 0 < self.efficiency <= 1:
            raise InputError(
                f"efficiency is {self.efficiency}; give a share above 0 and up to 1, such as 0.4"
            )
        if self.turn > self.story:
            raise InputError(
                f"turn is {self.turn} and story {self.story}: a story has its turn in it; give more"
            )


class Capacity:
    """What these cards can do with this model."""

    def __init__(self, sizes: Sizes, question: Question) -> None:
        """Take sizes and question; ModelError if the story is longer than the model's context."""
        if question.story > sizes.context:
            raise ModelError(
                f"story is {question.story:,} tokens and the model's context {sizes.context:,}; give fewer"
            )
        self.sizes, self.question = sizes, question
        card, cards = CARDS[question.card], question.cards
        self.memory = card.memory if question.memory is None else question.memory * _GIB
        self.traffic = card.traffic * cards * question.efficiency
        self.products = card.products * cards * question.efficiency
        copies = max(1.0, cards / sizes.heads)
        self.weights = sizes.bytes_of(question.bits)
        self.story = sizes.keys_and_values * question.story * copies + question.snapshots * sizes.state
        """Bytes of one story, over all cards."""
        self.left = cards * (self.memory - RESERVE) - self.weights
        """Bytes for stories, over all cards; negative if the weights alone are too large."""

    @property
    def stories(self) -> int:
        """Stories that the cards hold at once."""
        return max(0, int(self.left / self.story))

    def step(self, streams: int) -> float:
        """Seconds in which each of so many streams gets a token."""
        sizes, story = self.sizes, self.question.story
        read = sizes.bytes_of(self.question.bits, streams=streams)
        read += streams * (sizes.keys_and_values * story + 2 * sizes.state)  # a state is read and written
        computed = streams * (2 * sizes.active + sizes.scores * story)
        return max(read / self.traffic, computed / self.products)

    def reading(self, tokens: int, *, after: int = 0) -> float:
        """Seconds in which a prompt is read, of which so many tokens before are known."""
        sizes = self.sizes
        pairs = tokens * after + tokens * (tokens + 1) / 2
        return (2 * sizes.active * tokens + sizes.scores * pairs) / self.products

    @property
    def streams(self) -> int:
        """Most streams at once that fit and are each fast enough; 0 if not even one is."""
        low, high = 0, min(self.stories, _MOST_STREAMS)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.step(middle) * self.question.speed <= 1 else (low, middle - 1)
        return low

    def turn(self, *, known: bool) -> float:
        """Seconds of all cards for a turn among full streams; not `known`: the whole story is read again."""
        question = self.question
        after = question.story - question.turn
        reading = self.reading(question.turn, after=after) if known else self.reading(question.story)
        return reading + question.written * self.step(max(1, self.streams)) / max(1, self.streams)

    def users(self, *, known: bool) -> int:
        """People who can be served, each with a turn every few minutes."""
        return int(BUSY * 60 * self.question.minutes / self.turn(known=known)) if self.streams else 0


def read_sizes(path: Path) -> Sizes:
    """Read a config.json, or that of a folder; ModelError if it is none of a Jamba."""
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("model_type") != "jamba":
            raise ValueError("model_type is not 'jamba'")
        return sizes_of(values)
    except KeyError as error:
        raise ModelError(f"{file}: {error} is missing; give the config.json of a Jamba") from error
    except (OSError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{file}: cannot be used: {error}; give the config.json of a Jamba") from error


def sizes_of(config: dict[str, Any]) -> Sizes:
    """Count what a config describes. H hidden, F inner, D channels, N states, R rank of the step size."""
    for name in _COUNTED:
        if type(config[name]) is not int or config[name] < 1:
            raise ValueError(f"{name} is {config[name]!r:.40}, not 1 or more")
    H, F, layers = config["hidden_size"], config["intermediate_size"], range(config["num_hidden_layers"])
    attention = [i for i in layers if i % config["attn_layer_period"] == config["attn_layer_offset"]]
    mixtures = [i for i in layers if i % config["expert_layer_period"] == config["expert_layer_offset"]]
    E, head = config["num_experts"], config.get("head_dim") or H // config["num_attention_heads"]
    mixtures = mixtures if E > 1 else []
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    mambas = len(layers) - len(attention)
    embedding = config["vocab_size"] * H
    D, N, taps = config["mamba_expand"] * H, config["mamba_d_state"], config["mamba_d_conv"]
    return Sizes(
        experts=len(mixtures) * E * 3 * H * F,
        experts_each=config["num_experts_per_tok"] / E,
        quantised=(len(layers) - len(mixtures)) * 3 * H * F + len(attention) * 2 * H * (queries + keys),
        others=mambas * _mamba(config, H, D, N)
        + len(mixtures) * E * H
        + (2 * len(layers) + 1) * H
        + embedding,
        embedding=0 if config.get("tie_word_embeddings") else embedding,
        keys_and_values=len(attention) * 2 * keys * _HALF,
        state=mambas * D * (N * _WIDE + (taps - 1) * _HALF),
        scores=len(attention) * 2 * 2 * queries,
        heads=config["num_key_value_heads"],
        context=config["max_position_embeddings"],
    )


def _mamba(config: dict[str, Any], H: int, D: int, N: int) -> int:
    """Numbers in one Mamba mixer."""
    rank = config["mamba_dt_rank"]
    R = ceil(H / 16) if rank == "auto" else rank
    products = 2 * D * H + D * (R + 2 * N) + R * D + D * H
    biases = D + D * config.get("mamba_conv_bias", True) + (2 * D + H) * config.get("mamba_proj_bias", False)
    return int(products + biases + D * config["mamba_d_conv"] + D * N + D + R + 2 * N)


def lines(capacity: Capacity) -> list[str]:
    """The answer for people, assumptions included."""
    sizes, question, card = capacity.sizes, capacity.question, CARDS[capacity.question.card]
    rates = f"{card.traffic / 1e12:.2f} TB/s, {card.products / 1e12:,.0f} TFLOP/s"
    rates += f", of which {question.efficiency:.0%} is reached"
    told = [
        f"model: {sizes.parameters / 1e9:.1f} B parameters, {sizes.active / 1e9:.1f} B for each token",
        _row("weights", _size(capacity.weights), f"{question.bits} bits"),
        _row("keys and values", _size(sizes.keys_and_values), "a token"),
        _row("Mamba state", _size(sizes.state), "whatever the length"),
        _row(
            "one story", _size(capacity.story), f"{question.story:,} tokens, {question.snapshots} snapshots"
        ),
        f"{question.cards} x {question.card}: {capacity.memory / _GIB:.1f} GiB, {rates}",
    ]
    if capacity.left < capacity.story:
        short = capacity.story - capacity.left
        return [
            *told,
            f"  not even one story fits: {_size(short)} too little; more cards, fewer bits or tokens",
            *_notes(),
        ]
    told += [
        _row("left for stories", _size(capacity.left), "on all cards"),
        _row("stories on the cards", f"{capacity.stories:,}", "at once"),
        _row("one stream alone", f"{1 / capacity.step(1):,.0f}", "tokens/s"),
        _row("to read a story anew", f"{capacity.reading(question.story):.2f}", "seconds"),
        _row(
            f"a turn of {question.turn:,} tokens",
            f"{capacity.reading(question.turn, after=question.story - question.turn):.2f}",
            "seconds, the rest known",
        ),
    ]
    if not (streams := capacity.streams):
        return [
            *told,
            f"  no stream reaches {question.speed:g} tokens/s: more cards, or --speed lower",
            *_notes(),
        ]
    together = streams / capacity.step(streams)
    users = capacity.users(known=True)
    return [
        *told,
        _row("streams at once", f"{streams:,}", f"each at {together / streams:,.0f} tokens/s or more"),
        _row("together", f"{together:,.0f}", "tokens/s"),
        _row(
            "users", f"{users:,}", f"a turn of {question.written:,} tokens every {question.minutes:g} minutes"
        ),
        _row("their stories", _size(users * capacity.story), "on cards, in memory or on disk"),
        _row("users without a cache", f"{capacity.users(known=False):,}", "the story read anew each turn"),
        *_notes(),
    ]


def _row(name: str, value: str, remark: str) -> str:
    return f"  {name:<22} {value:>12}  {remark}"


def _notes() -> list[str]:
    return ["assumed:", *(f"  - {each}" for each in ASSUMPTIONS)]


def _size(number: float) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:,.0f} B"
