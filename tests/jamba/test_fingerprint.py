"""A fingerprint sees every bit of every weight, and is the same however it is made."""

import pytest
import torch
from torch import Tensor

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba import checksum as module
from spellbound.jamba.checksum import bit_sums
from tests.jamba.models import ours

LARGE = 5 * 2**14 + 77  # words: whole rows and a rest


def changed(model: JambaForCausalLM, name: str, values: Tensor) -> str:
    """Return the fingerprint with another weight."""
    weight = model.get_parameter(name)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(values)
        told = model.fingerprint()
        weight.copy_(kept)
    return told


def test_any_change_of_a_weight_is_seen() -> None:
    model = ours(vocab_size=320)
    name = "model.embed_tokens.weight"
    weight = model.get_parameter(name).detach().clone()
    seen = [model.fingerprint()]
    for row in (0, 7, 319):
        other = weight.clone()
        other[row] += 1.0
        seen.append(changed(model, name, other))
        other = weight.clone()
        other[row, 3] = -other[row, 3]
        seen.append(changed(model, name, other))
        other = weight.clone()
        other[row] = -other[row]  # an even number of signs
        seen.append(changed(model, name, other))
    other = weight.clone()
    other[[3, 200]] = weight[[200, 3]]
    seen.append(changed(model, name, other))
    seen.append(changed(model, name, -weight))
    assert len(set(seen)) == len(seen)
    assert model.fingerprint() == seen[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_each_single_element_counts(dtype: torch.dtype) -> None:
    numbers = torch.arange(LARGE).remainder(2).to(dtype)
    seen = {bit_sums(numbers)}
    for place in (0, 1, 2**14 - 1, 2**14, LARGE // 2, LARGE - 2, LARGE - 1):
        other = numbers.clone()
        other[place] = 1 - other[place].long()
        seen.add(bit_sums(other))
    assert len(seen) == 8


def test_rows_that_change_places_are_seen() -> None:
    rows = torch.randn(64, 2**14, generator=torch.Generator().manual_seed(1))
    for one, other in ((0, 1), (5, 60)):
        swapped = rows.clone()
        swapped[[one, other]] = rows[[other, one]]
        assert bit_sums(swapped) != bit_sums(rows)
        narrow, swapped = rows.view(-1, 8), rows.view(-1, 8).clone()
        swapped[[one, other]] = narrow[[other, one]]
        assert bit_sums(swapped) != bit_sums(narrow)


def test_it_is_the_same_however_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.randn(40 * 2**14 + 5, generator=torch.Generator().manual_seed(1))
    told, threads = bit_sums(numbers), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert bit_sums(numbers) == told
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(module, "_ROWS_ON_CPU", 1024)  # as elsewhere
    assert bit_sums(numbers) == told
    padded = torch.cat([torch.zeros(1, dtype=torch.bfloat16), numbers.bfloat16()])
    assert bit_sums(padded[1:]) == bit_sums(numbers.bfloat16())  # words that begin within one
    if torch.cuda.is_available():
        assert bit_sums(numbers.cuda()) == told


def test_they_are_what_they_were_when_files_were_named_by_them() -> None:
    # The first number of splitmix64 from 0, as its authors' code gives it.
    assert int.from_bytes(bit_sums(torch.tensor([1], dtype=torch.int32)), "little") == 0xE220A8397B1DCDAF
    assert bit_sums(torch.tensor([], dtype=torch.int32)) == bytes(8)
