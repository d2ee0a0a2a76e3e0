"""Bits per byte: how well a model predicts text it has never seen, whatever its tokenizer."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from recipes.nano import console, corpora
from spellbound.data.documents import Document
from spellbound.data.rows import read_examples
from spellbound.engine import load_model
from spellbound.train.batches import NO_TARGET
from spellbound.train.encoding import Encoded, Encoder
from spellbound.train.loss import Learner

ROW = 512
"""Tokens of a document read at once; a longer one is cut, each piece without what came before it."""
EXAMPLES = 200
"""Examples whose completions are measured, each with its whole prompt."""


def measure_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits per byte of each collection's held-out documents, and of unseen completions."""
    torch.set_num_threads(arguments.processes)
    disable_progress_bar()  # transformers' own, of loading
    encoder = Encoder(arguments.model)
    network = load_model(arguments.model, device="cpu", dtype="float32", adapter=arguments.adapter)
    learner = Learner(network.eval())
    found: list[dict[str, Any]] = []
    for collection in console.watched(corpora.collections(arguments.corpora), "bits per byte"):
        documents = list(chosen(arguments.corpora, collection, arguments.bytes))
        if documents:
            texts = [document.text for document in documents]
            bits = sum(bits_of(learner, sample) for sample in encoder.documents(texts))
            found.append(_entry(collection, documents[0].language, texts, bits))
    examples = list(islice(read_examples([arguments.examples]), EXAMPLES))
    bits = sum(bits_of(learner, sample, row=0) for sample in encoder.examples(examples))
    texts = [example.completion for example in examples]
    found.append(_entry("simulator, given the prompt", "en", texts, bits))
    return found


def chosen(folder: Path, collection: str, limit: int) -> Iterator[Document]:
    """Held-out documents of a collection, each shortened so that all of them fit `limit` bytes."""
    documents = [document for document in corpora.read(folder, collection) if corpora.held_out(document.id)]
    for document in documents:
        room = limit // len(documents)
        yield replace(document, text=document.text.encode()[:room].decode("utf-8", "ignore"))


@torch.inference_mode()
def bits_of(learner: Learner, sample: Encoded, row: int = ROW) -> float:
    """Bits that the model needs for the learnt tokens, in rows of so many tokens; 0: all in one.

    Each row repeats the last token before it, so that none goes unmeasured.
    """
    nats, size = 0.0, row or len(sample.ids)
    for start in range(0, max(1, len(sample.ids) - 1), size - 1):
        ids = torch.tensor([list(sample.ids[start : start + size])], dtype=torch.long)
        targets = torch.full_like(ids, NO_TARGET)
        first = max(1, sample.given - start)
        targets[:, first - 1 : -1] = ids[:, first:]
        nats += float(learner(ids, None, targets, torch.ones(ids.shape), torch.tensor([ids.shape[1]]))[0])
    return nats / math.log(2)


def _entry(source: str, lang: str, texts: list[str], bits: float) -> dict[str, Any]:
    size = sum(len(text.encode()) for text in texts)
    value = round(bits / max(1, size), 3)
    return {"source": source, "lang": lang, "documents": len(texts), "bytes": size, "bits": value}
