"""What a recipe stands for before any weight is touched: tokenizer, token ids, and the order of rows."""

from __future__ import annotations

from collections.abc import Iterator

from spellbound.errors import ModelError
from spellbound.train import start
from spellbound.train.dataset import Dataset, Progress, prepare, train_sources
from spellbound.train.encoding import Encoder
from spellbound.train.folder import TOKENS
from spellbound.train.recipe import Recipe
from spellbound.train.rows import Order


def prepared(recipe: Recipe, progress: Progress = lambda name, read: None) -> tuple[Encoder, Dataset]:
    """The tokenizer and the data, tokenised into the run's folder if that is not done yet.

    Raises InputError for data, ModelError for a tokenizer or config that cannot be used.
    """
    base = start.base_folder(recipe.model)
    encoder = Encoder(start.tokenizer_folder(recipe.model, base))
    vocabulary = start.read_config(recipe.model, base).vocab_size
    if encoder.size > vocabulary:
        raise ModelError(
            f"{encoder.folder}: the tokenizer has {encoder.size} tokens and the model {vocabulary};"
            " they do not belong together"
        )
    return encoder, prepare(recipe.data, encoder, recipe.run.folder / TOKENS, progress)


def order_of(recipe: Recipe, dataset: Dataset) -> Order:
    """The rows of every step; `order.at(0)` are those of the largest batch."""
    return Order(
        dataset.train,
        repeats=[source.repeats for source in train_sources(recipe.data)],
        length=recipe.data.length,
        batching=recipe.data.batching,
        batch=recipe.schedule.batch,
        seed=recipe.schedule.seed,
    )


def steps_of(recipe: Recipe, order: Order) -> int:
    """How many steps the run has."""
    return recipe.schedule.steps or order.total_steps(recipe.schedule.epochs)


def described(dataset: Dataset) -> Iterator[str]:
    """Say in a line what became of each source."""
    for split, tokens in (("train", dataset.train), ("valid", dataset.valid)):
        for counts in tokens.counts:
            if counts.samples or counts.dropped:
                yield (
                    f"{split} {counts.name}: {counts.samples:,} samples, {counts.tokens:,} tokens,"
                    f" {counts.targets:,} learnt, {counts.held_out:,} held out,"
                    f" {counts.windowed:,} cut into windows, {counts.dropped:,} left out as too long"
                )
