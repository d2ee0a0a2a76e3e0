"""From one row of logits to one token: pure functions, the randomness is handed in.

Shapes: V vocabulary, K candidates that survived the filters.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spellbound.engine.params import SamplingParams
from spellbound.engine.requests import Scores
from spellbound.errors import ModelError

_FIRST_LOOK = 256


def with_bias(logits_V: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add to the logits of some tokens; those the vocabulary lacks are left out."""
    known = {token: value for token, value in bias.items() if 0 <= token < len(logits_V)}
    if not known:
        return logits_V
    ids_K = torch.tensor(list(known), dtype=torch.long)
    return logits_V.index_add(0, ids_K, torch.tensor(list(known.values()), dtype=logits_V.dtype))


def penalise_repeats(logits_V: Tensor, recent: Sequence[int], penalty: float) -> Tensor:
    """Make each token of `recent` less likely, once however often it occurs (Keskar et al., 2019)."""
    if penalty == 1.0 or not recent:
        return logits_V
    seen_K = torch.tensor(sorted(set(recent)), dtype=torch.long)
    logits_K = logits_V[seen_K]
    return logits_V.index_copy(0, seen_K, torch.where(logits_K > 0, logits_K / penalty, logits_K * penalty))


def candidates(logits_V: Tensor, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """Return the ids of the tokens that both filters keep and their probabilities (not renormalised).

    Both filters look at the whole distribution, so their order does not matter. Tokens at -inf never survive.
    """
    probs_V = torch.softmax(logits_V, dim=-1)
    floor = max(min_p * float(probs_V.max()), torch.finfo(probs_V.dtype).tiny)
    ids_K = (probs_V >= floor).nonzero().squeeze(-1)
    if top_p == 1.0:
        return ids_K, probs_V[ids_K]
    # Only as many tokens are sorted as needed: sorting 65,536 costs milliseconds, most rows need a few.
    survivors, look = ids_K.shape[0], _FIRST_LOOK
    while True:
        probs_K, order_K = torch.topk(probs_V[ids_K], min(look, survivors))
        before_K = probs_K.double().cumsum(-1) - probs_K
        kept = max(1, int((before_K < top_p).sum()))
        if kept < look or look >= survivors:
            return ids_K[order_K[:kept]], probs_K[:kept]
        look *= 8


def sample(
    logits_V: Tensor, params: SamplingParams, recent: Sequence[int], random: torch.Generator | None = None
) -> int:
    """Choose the next token from a row of float32 logits on the CPU; -inf marks a forbidden token.

    Order: bias, repetition penalty over `recent`, temperature, then top-p and min-p.
    Temperature 0 needs no generator.
    """
    logits_V = with_bias(logits_V, params.logit_bias)
    logits_V = penalise_repeats(logits_V, recent, params.repetition_penalty)
    best = int(logits_V.argmax())
    top = float(logits_V[best])
    if top != top or top in (float("inf"), float("-inf")):
        raise ModelError(f"the model's highest logit is {top}; use --dtype float32, or check the weights")
    if params.temperature == 0.0:
        return best
    # The maximum is taken off first, so that a tiny temperature cannot overflow; nor may it round to 0.
    temperature = max(params.temperature, torch.finfo(logits_V.dtype).tiny)
    ids_K, probs_K = candidates((logits_V - top) / temperature, params.top_p, params.min_p)
    return int(ids_K[torch.multinomial(probs_K, 1, generator=random)])


def scores(logits_V: Tensor, chosen: int, count: int) -> Scores:
    """Return the log-probability of the chosen token, and the `count` likeliest tokens with theirs."""
    found_V = torch.log_softmax(logits_V, -1)
    values_K, ids_K = torch.topk(found_V, min(count, len(found_V)))
    likeliest = tuple(zip(ids_K.tolist(), values_K.tolist(), strict=True))
    return Scores(float(found_V[chosen]), likeliest)
