"""Bits per byte equal those computed directly; a long text is cut without losing a target."""

import math
import random
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from recipes.nano import bits, data, tokenizer
from spellbound.data.rows import write_examples
from spellbound.jamba import JambaForCausalLM
from spellbound.train.encoding import Encoded
from spellbound.train.loss import Learner
from tests.recipes.conftest import micro


def directly(network: JambaForCausalLM, ids: list[int], given: int = 1) -> float:
    read = torch.tensor([ids])
    with torch.inference_mode():
        logits = network(read).logits[0, given - 1 : -1]
    return float(cross_entropy(logits, read[0, given:], reduction="sum")) / math.log(2)


@pytest.mark.parametrize(("size", "given"), [(9, 1), (30, 12), (17, 3), (2, 1), (32, 31), (5, 5)])
def test_bits_of_what_is_learnt(size: int, given: int) -> None:
    network = micro().eval()
    draw = random.Random(size)
    sample = Encoded([draw.randrange(4, 60) for _ in range(size)], given)
    wanted = directly(network, sample.ids, given)
    for row in (0, 64):
        assert bits.bits_of(Learner(network), sample, row=row) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("size", [15, 16, 17, 31, 32, 100])
def test_a_long_text_is_cut_without_losing_targets(size: int) -> None:
    network = micro().eval()
    with torch.no_grad():
        network.model.embed_tokens.weight.zero_()  # every token equally likely: the count of targets shows
    sample = Encoded(list(range(4, 4 + size)), 1)
    found = bits.bits_of(Learner(network), sample, row=16)
    assert found == pytest.approx((size - 1) * math.log2(400), rel=1e-5)


def test_pieces_are_read_without_what_came_before_them() -> None:
    network = micro().eval()
    ids = [random.Random(place).randrange(4, 60) for place in range(40)]
    pieces = (ids[0:16], ids[15:31], ids[30:40])
    wanted = sum(directly(network, piece) for piece in pieces)
    assert bits.bits_of(Learner(network), Encoded(ids, 1), row=16) == pytest.approx(wanted, rel=1e-5)


def test_all_held_out_documents_share_the_bytes(corpora: Path) -> None:
    documents = list(bits.chosen(corpora, "simple_en", 60))
    assert documents
    assert sum(len(document.text.encode()) for document in documents) <= 60
    assert len({document.text for document in documents}) > 1


def test_every_collection_and_the_simulator_are_measured(
    corpora: Path, bpe: Tokenizer, tmp_path: Path
) -> None:
    network = micro().eval()
    network.save_pretrained(tmp_path / "model")
    tokenizer.save(bpe, tmp_path / "model")
    write_examples(tmp_path / "examples.jsonl", data.unseen(1))
    given = Namespace(
        model=tmp_path / "model",
        adapter=None,
        corpora=corpora,
        bytes=300,
        examples=tmp_path / "examples.jsonl",
        processes=1,
    )
    found = {entry["source"]: entry for entry in bits.measure_all(given)}
    (story,) = data.unseen(1)
    wanted = len(story.completion.encode())
    assert found["simulator, given the prompt"] == {
        "source": "simulator, given the prompt",
        "lang": "en",
        "documents": 1,
        "bytes": wanted,
        "bits": found["simulator, given the prompt"]["bits"],
    }
    assert found["simple_en"]["lang"] == "en"
    assert 2 < found["simple_en"]["bits"] < 9
