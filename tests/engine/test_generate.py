"""One request at a time on a tiny random model: limits, stops, cancellation, and states used again."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from spellbound.engine import Engine, Request, SamplingParams
from spellbound.errors import InputError, ModelError
from spellbound.jamba import JambaForCausalLM, Piece, new_sequence, read_together
from tests.jamba.models import relative_error

GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
PROMPT = [1, *range(40, 140)]


def fresh(model: JambaForCausalLM) -> Engine:
    return Engine(model, chunk=32)


def run(
    engine: Engine, prompt_ids: list[int], boundaries: tuple[int, ...] = ()
) -> tuple[list[int], int, int]:
    """Tokens written, tokens reused, prompt tokens really run."""
    generation = engine.generate(Request(prompt_ids=prompt_ids, params=GREEDY, boundaries=boundaries))
    tokens = list(generation)
    return tokens, generation.stats.reused_tokens, generation.stats.prefill_tokens


def test_tokens_equal_the_plain_model(tiny_model: JambaForCausalLM) -> None:
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(tiny_model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert run(fresh(tiny_model), PROMPT)[0][:8] == ids[len(PROMPT) :]


@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_chunks_do_not_change_the_tokens(tiny_model: JambaForCausalLM, chunk: int) -> None:
    assert run(Engine(tiny_model, chunk=chunk), PROMPT)[0] == run(fresh(tiny_model), PROMPT)[0]


def test_same_prompt_again_runs_nothing(tiny_model: JambaForCausalLM) -> None:
    engine = fresh(tiny_model)
    cold, reused, ran = run(engine, PROMPT)
    assert (reused, ran) == (0, len(PROMPT))
    again, reused, ran = run(engine, PROMPT)
    assert again == cold
    assert (reused, ran) == (len(PROMPT), 0)


@pytest.mark.parametrize("shared", [1, 2, 3, 31, 32, 33, 64, 100])
def test_resumed_equals_cold_at_every_boundary(tiny_model: JambaForCausalLM, shared: int) -> None:
    engine = fresh(tiny_model)
    run(engine, PROMPT, boundaries=(shared,))
    turn = [*PROMPT[:shared], *range(200, 230)]
    tokens, reused, ran = run(engine, turn)
    assert (reused, ran) == (shared, 30)
    assert tokens == run(fresh(tiny_model), turn)[0]


@pytest.mark.parametrize(
    ("length", "boundaries", "kept"),
    [
        (3 * 1024, (), [1024, 2048]),
        (2 * 1024 + 100, (), [1024]),  # the end is near enough
        (3 * 1024, (1300, 2000), [1300, 2000]),  # so is what is kept anyway, before and behind
    ],
)
def test_of_a_long_prompt_states_in_between_are_kept(
    tiny_model: JambaForCausalLM, length: int, boundaries: tuple[int, ...], kept: list[int]
) -> None:
    engine, prompt = fresh(tiny_model), [3 + number % 290 for number in range(length)]
    run(engine, prompt, boundaries=boundaries)
    ends = {node.end for node in engine.cache.nodes() if node.held}
    assert sorted(end for end in ends if end < length) == kept
    assert length in ends


@pytest.mark.parametrize("taken", [1, 5, 24])
def test_going_on_from_a_reply_runs_what_was_added(tiny_model: JambaForCausalLM, taken: int) -> None:
    engine = fresh(tiny_model)
    params = SamplingParams(temperature=0.0, max_tokens=taken)
    written = list(engine.generate(Request(prompt_ids=PROMPT, params=params)))
    turn = [*PROMPT, *written, 7, 8, 9]
    tokens, reused, ran = run(engine, turn)
    # The last written token was not yet fed to the model when the reply ended.
    assert (reused, ran) == (len(PROMPT) + taken - 1, 4)
    assert tokens == run(fresh(tiny_model), turn)[0]


@pytest.mark.parametrize("taken", [1, 5])
def test_going_on_from_where_the_reader_left(tiny_model: JambaForCausalLM, taken: int) -> None:
    engine = fresh(tiny_model)
    generation = engine.generate(Request(prompt_ids=PROMPT, params=GREEDY))
    written = [token for _, token in zip(range(taken), generation, strict=False)]
    generation.close()
    turn = [*PROMPT, *written, 7, 8, 9]
    tokens, reused, _ = run(engine, turn)
    assert reused >= len(PROMPT)
    assert tokens == run(fresh(tiny_model), turn)[0]


def test_resumed_logits_equal_cold_ones(tiny_model: JambaForCausalLM) -> None:
    engine = fresh(tiny_model)
    run(engine, PROMPT, boundaries=(50,))
    space = engine.space_of(Request(prompt_ids=PROMPT, params=GREEDY))
    known = engine.cache.find([*PROMPT[:70], 9], space)
    assert known.length == 50
    assert known.shared == 70
    assert known.snapshot is not None
    pieces = [Piece(PROMPT[50:70], known.snapshot.state.fork()), Piece(PROMPT[:70], new_sequence(tiny_model))]
    resumed, cold = (read_together(tiny_model, [piece])[0] for piece in pieces)
    assert resumed is not None
    assert cold is not None
    assert relative_error(resumed, cold) < 1e-5


def test_a_snapshot_is_not_spoilt_by_its_use(tiny_model: JambaForCausalLM) -> None:
    engine = fresh(tiny_model)
    results = {tuple(run(engine, PROMPT, boundaries=(9,))[0]) for _ in range(3)}
    results |= {tuple(run(engine, [*PROMPT[:9], *PROMPT[9:]])[0])}
    assert len(results) == 1


def test_stops_and_does_not_yield_the_stop(tiny_model: JambaForCausalLM) -> None:
    free = run(fresh(tiny_model), PROMPT)[0]
    stop = free[5]
    generation = fresh(tiny_model).generate(
        Request(prompt_ids=PROMPT, params=GREEDY, stop_ids=frozenset({stop}))
    )
    assert list(generation) == free[: free.index(stop)]
    assert generation.finish_reason == "stop"


class Counting:
    """A writer that wants so many tokens before it lets a text end, and no more than so many."""

    def __init__(self, least: int, most: int = 1000) -> None:
        self.tokens: list[int] = []
        self._least, self._most = least, most

    def write(self, token: int) -> None:
        self.tokens.append(token)

    @property
    def done(self) -> bool:
        return len(self.tokens) >= self._most

    @property
    def wants_more(self) -> bool:
        return len(self.tokens) < self._least


def test_a_stop_is_not_chosen_while_the_writer_wants_more(tiny_model: JambaForCausalLM) -> None:
    stop = run(fresh(tiny_model), PROMPT)[0][0]
    writer = Counting(least=1000)
    generation = fresh(tiny_model).generate(
        Request(prompt_ids=PROMPT, params=GREEDY, stop_ids=frozenset({stop}), writer=writer)
    )
    tokens = list(generation)
    assert stop not in tokens
    assert tokens == writer.tokens
    assert generation.finish_reason == "length"


def test_the_writer_says_when_it_is_done_and_no_token_is_chosen_after(tiny_model: JambaForCausalLM) -> None:
    writer = Counting(least=0, most=5)
    generation = fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=GREEDY, writer=writer))
    assert list(generation) == writer.tokens == run(fresh(tiny_model), PROMPT)[0][:5]
    assert generation.finish_reason == "writer"


def test_an_error_of_the_writer_reaches_its_reader(tiny_model: JambaForCausalLM) -> None:
    class Failing(Counting):
        def write(self, token: int) -> None:
            raise InputError("no more ink")

    engine = fresh(tiny_model)
    with pytest.raises(InputError, match="no more ink"):
        list(engine.generate(Request(prompt_ids=PROMPT, params=GREEDY, writer=Failing(0))))
    assert run(engine, PROMPT)[0] == run(fresh(tiny_model), PROMPT)[0]


def test_budget(tiny_model: JambaForCausalLM) -> None:
    generation = fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=GREEDY))
    assert len(list(generation)) == 24
    assert generation.finish_reason == "length"
    assert generation.stats.written_tokens == 24
    assert generation.stats.tokens_per_second > 0


def test_context_length_is_the_last_budget(tiny_model: JambaForCausalLM) -> None:
    limit = tiny_model.config.max_position_embeddings
    engine = Engine(tiny_model)
    generation = engine.generate(Request(prompt_ids=[5] * (limit - 3), params=GREEDY))
    assert len(list(generation)) == 3
    with pytest.raises(ModelError, match=f"has {limit} tokens and the model reads fewer than {limit}"):
        engine.generate(Request(prompt_ids=[5] * limit, params=GREEDY))


@pytest.mark.parametrize("asked", [0, 1, 3, 6])
def test_cancelled_by_its_reader(tiny_model: JambaForCausalLM, asked: int) -> None:
    answers: Iterator[bool] = iter([False] * asked + [True] * 1000)
    engine = fresh(tiny_model)
    params = SamplingParams(temperature=0.0, max_tokens=500)
    generation = engine.generate(Request(prompt_ids=PROMPT, params=params), lambda: next(answers))
    tokens = list(generation)
    assert generation.finish_reason == "cancelled"
    assert len(tokens) < 500
    assert run(engine, PROMPT)[0] == run(fresh(tiny_model), PROMPT)[0]


def test_closed_before_it_began_it_costs_nothing(tiny_model: JambaForCausalLM) -> None:
    engine = fresh(tiny_model)
    generation = engine.generate(Request(prompt_ids=PROMPT, params=GREEDY))
    generation.close()
    assert list(generation) == []
    assert engine.steps == 0


def test_a_deadline_ends_the_text_where_it_is(tiny_model: JambaForCausalLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=100_000)
    generation = fresh(tiny_model).generate(Request(prompt_ids=[5], params=params, seconds=0.2))
    assert 0 < len(list(generation)) < 100_000
    assert generation.finish_reason in ("deadline", "length")  # the context may be full before
    with pytest.raises(InputError, match="seconds is 0"):
        Request(prompt_ids=[5], params=params, seconds=0)


def test_seeds(tiny_model: JambaForCausalLM) -> None:
    def write(seed: int) -> list[int]:
        params = SamplingParams(temperature=1.0, seed=seed, max_tokens=40)
        return list(fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=params)))

    assert write(1) == write(1)
    assert write(1) != write(2)


def test_penalty_spares_what_it_is_told_to(tiny_model: JambaForCausalLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=60, repetition_penalty=10.0, repetition_window=60)
    everything = frozenset(range(tiny_model.config.vocab_size))
    spared = fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=params, never_penalised=everything))
    penalised = fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=params))
    first = list(spared)
    assert first[:24] == run(fresh(tiny_model), PROMPT)[0]
    assert first != list(penalised)


@pytest.mark.parametrize(
    ("prompt_ids", "message"),
    [
        ([], "the prompt has no tokens"),
        ([1, 320], "token 320 at place 1 of the prompt is not in the vocabulary of 320"),
        ([-1], "token -1 at place 0"),
        ([1, 2**32 + 5], "use the model's own tokenizer"),
        ([1.5, 2.0], "of float64; give a row of whole numbers"),
        ([[1, 2]], "are 2-dimensional"),
    ],
)
def test_bad_prompt(tiny_model: JambaForCausalLM, prompt_ids: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fresh(tiny_model).generate(Request(prompt_ids=prompt_ids, params=GREEDY))


class Nothing:
    """A constraint that has come to a dead end."""

    finished = False

    def allowed(self) -> torch.Tensor:
        return torch.zeros(320, dtype=torch.bool)

    def commit(self, token: int) -> None:
        raise AssertionError(token)


def test_a_constraint_that_allows_nothing_is_named(tiny_model: JambaForCausalLM) -> None:
    request = Request(prompt_ids=PROMPT, params=GREEDY, constraint=Nothing())
    with pytest.raises(InputError, match="the constraint allows no token at all"):
        list(fresh(tiny_model).generate(request))


def test_bad_stop_and_bad_chunk_are_named(tiny_model: JambaForCausalLM) -> None:
    with pytest.raises(ModelError, match="stop token 999 is not in the vocabulary of 320"):
        fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=GREEDY, stop_ids=frozenset({2, 999})))
    wrong: Any = (7.5,)
    with pytest.raises(ModelError, match=r"boundary 7\.5 of the prompt is no place"):
        fresh(tiny_model).generate(Request(prompt_ids=PROMPT, params=GREEDY, boundaries=wrong))
    with pytest.raises(ModelError, match="chunk is 0"):
        Engine(tiny_model, chunk=0)


def test_a_seed_gives_the_same_tokens_cold_and_from_kept_states(tiny_model: JambaForCausalLM) -> None:
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=40)
    engine = fresh(tiny_model)
    request = Request(prompt_ids=PROMPT, params=params, boundaries=(20, 50))
    cold = list(engine.generate(request))
    assert list(engine.generate(request)) == cold
    turn = Request(prompt_ids=[*PROMPT, *cold, 7, 8], params=params)
    assert list(engine.generate(turn)) == list(fresh(tiny_model).generate(turn))


def test_scores_belong_to_their_tokens(tiny_model: JambaForCausalLM) -> None:
    request = Request(prompt_ids=PROMPT, params=GREEDY, logprobs=3)
    generation = fresh(tiny_model).generate(request)
    tokens = list(generation)
    assert len(generation.scores) == len(tokens)
    for token, score in zip(tokens, generation.scores, strict=True):
        assert len(score.likeliest) == 3
        assert score.likeliest[0] == (token, score.chosen)  # greedy
    with pytest.raises(InputError, match="logprobs is 65"):
        Request(prompt_ids=PROMPT, params=GREEDY, logprobs=65)
