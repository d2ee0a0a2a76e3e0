"""The sampler against its definition: which tokens survive, how often each comes, and the same seed again."""

import math

import pytest
import torch

from spellbound.engine import SamplingParams, sample
from spellbound.engine.sampling import candidates, penalise_repeats, scores
from spellbound.errors import InputError, ModelError

PROBS = (0.4, 0.3, 0.15, 0.1, 0.05)
LOGITS_V = torch.tensor(PROBS).log()
FREE = SamplingParams(temperature=1.0, min_p=0.0)


def frequencies(params: SamplingParams, logits_V: torch.Tensor = LOGITS_V, draws: int = 4000) -> list[float]:
    random = torch.Generator().manual_seed(11)
    tokens = [sample(logits_V, params, [], random) for _ in range(draws)]
    return [tokens.count(token) / draws for token in range(logits_V.shape[0])]


def close(frequency: float, probability: float, draws: int = 4000) -> bool:
    """Within four standard errors."""
    return abs(frequency - probability) <= 4 * math.sqrt(max(probability * (1 - probability), 1e-9) / draws)


def test_temperature_one_samples_the_distribution() -> None:
    assert all(close(found, wanted) for found, wanted in zip(frequencies(FREE), PROBS, strict=True))


def test_temperature_sharpens() -> None:
    sharpened = torch.tensor(PROBS) ** 2
    wanted = (sharpened / sharpened.sum()).tolist()
    found = frequencies(SamplingParams(temperature=0.5, min_p=0.0))
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))


def test_top_p_renormalises_over_the_nucleus() -> None:
    found = frequencies(SamplingParams(temperature=1.0, top_p=0.75, min_p=0.0))
    wanted = [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0.0, 0.0]
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("top_p", "min_p", "kept"),
    [
        (1.0, 0.0, {0, 1, 2, 3, 4}),
        (0.69, 0.0, {0, 1}),
        (0.71, 0.0, {0, 1, 2}),
        (1e-9, 0.0, {0}),
        (1.0, 0.24, {0, 1, 2, 3}),
        (1.0, 0.99, {0}),
        (0.71, 0.5, {0, 1}),
        (0.3, 0.1, {0}),
    ],
)
def test_filters_keep(top_p: float, min_p: float, kept: set[int]) -> None:
    assert set(candidates(LOGITS_V, top_p, min_p)[0].tolist()) == kept


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [3, 255, 256, 257, 5000])
def test_nucleus_equals_a_full_sort(size: int, top_p: float) -> None:
    logits_V = torch.randn(size, generator=torch.Generator().manual_seed(size))
    probs_V, order_V = torch.softmax(logits_V, -1).double().sort(descending=True)
    wanted = order_V[: max(1, int((probs_V.cumsum(-1) - probs_V < top_p).sum()))]
    assert set(candidates(logits_V, top_p, 0.0)[0].tolist()) == set(wanted.tolist())


def test_forbidden_tokens_never_come() -> None:
    logits_V = LOGITS_V.clone()
    logits_V[0] = float("-inf")
    assert frequencies(SamplingParams(temperature=100.0, min_p=0.0), logits_V)[0] == 0.0


def test_greedy_needs_no_generator_and_ignores_the_seed() -> None:
    assert {sample(LOGITS_V, SamplingParams(temperature=0.0, seed=seed), []) for seed in range(5)} == {0}


def test_same_seed_same_tokens_other_seed_others() -> None:
    def draw(seed: int) -> list[int]:
        random = torch.Generator().manual_seed(seed)
        return [sample(LOGITS_V, FREE, [], random) for _ in range(50)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    logits_V = torch.tensor([1e4, 3e4, -3e4])
    for temperature in (1e-30, 1e-45, 5e-324):
        assert sample(logits_V, SamplingParams(temperature=temperature), [], torch.Generator()) == 1


def test_penalty_divides_positive_multiplies_negative_and_counts_once() -> None:
    logits_V = torch.tensor([2.0, -2.0, 2.0])
    once = penalise_repeats(logits_V, [0, 1, 1, 0, 0], 2.0)
    assert once.tolist() == [1.0, -4.0, 2.0]
    assert logits_V.tolist() == [2.0, -2.0, 2.0]


def test_penalty_changes_the_choice() -> None:
    params = SamplingParams(temperature=0.0, repetition_penalty=1.5)
    logits_V = torch.tensor([3.0, 2.9])
    assert sample(logits_V, params, []) == 0
    assert sample(logits_V, params, [0]) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_unusable_logits_are_refused(value: float) -> None:
    with pytest.raises(ModelError, match="highest logit is"):
        sample(torch.full((4,), value), SamplingParams(), [], torch.Generator())


def test_bias_is_added_before_anything_else() -> None:
    for token in range(len(PROBS)):
        params = SamplingParams(temperature=0.0, logit_bias={token: 100.0, 999: 5.0})
        assert sample(LOGITS_V, params, []) == token
    banned = SamplingParams(temperature=1.0, min_p=0.0, logit_bias={0: -100.0})
    assert frequencies(banned)[0] == 0.0
    with pytest.raises(InputError, match="the logit_bias of token 3 is 101"):
        SamplingParams(logit_bias={3: 101.0})


def test_scores_are_the_model_s_own() -> None:
    found = scores(LOGITS_V, 1, 2)
    assert found.chosen == pytest.approx(float(torch.log(torch.tensor(PROBS[1]))), abs=1e-5)
    order = sorted(range(len(PROBS)), key=lambda token: -PROBS[token])[:2]
    assert [token for token, _ in found.likeliest] == order
