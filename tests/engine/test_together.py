"""Many requests at once: each gets what it would get alone, nobody holds up the others, nothing leaks."""

import gc
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from spellbound.engine import Engine, Generation, Request, StoryCache, generate
from spellbound.errors import EngineBusy, EnvironmentFault, InputError
from spellbound.jamba import JambaForCausalLM
from tests.engine.interleaved import Interleaved, greedy, story, write_adapters


def alone(model: JambaForCausalLM, ids: list[int], count: int) -> list[int]:
    return list(
        Engine(model, cache=StoryCache(max_bytes=0)).generate(Request(prompt_ids=ids, params=greedy(count)))
    )


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("never came true")


def test_texts_written_together_are_those_written_alone(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, chunk=64)
    prompts = [story(seed, 20 + 37 * seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        ran = pool.map(lambda ids: list(engine.generate(Request(prompt_ids=ids, params=greedy(30)))), prompts)
        found = list(ran)
    assert found == [alone(tiny_model, ids, 30) for ids in prompts]
    assert engine.load == (0, 0)


def test_a_step_is_shared(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model)
    generations = [engine.generate(Request(prompt_ids=story(n, 9), params=greedy(40))) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written: list[list[int]] = list(pool.map(list, generations))
    assert [len(tokens) for tokens in written] == [40] * 8
    assert engine.steps < 8 * 40 / 2


def test_a_long_prompt_does_not_hold_up_who_writes(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, chunk=32, cache=StoryCache(max_bytes=0))
    writing = engine.generate(Request(prompt_ids=story(1, 5), params=greedy(400)))
    next(writing)
    reading = engine.generate(Request(prompt_ids=story(2, 480), params=greedy(1)))
    reader = threading.Thread(target=lambda: list(reading))
    reader.start()
    before = writing.stats.written_tokens
    reader.join()
    # 480 tokens at a quarter of a chunk beside a text that is written: a token of it in each of 60 steps.
    assert writing.stats.written_tokens - before >= 50
    writing.close()


def test_prompts_are_read_in_turn(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, chunk=16, cache=StoryCache(max_bytes=0))
    ends: list[str] = []

    def read(name: str, ids: list[int]) -> None:
        list(engine.generate(Request(prompt_ids=ids, params=greedy(1))))
        ends.append(name)

    long = threading.Thread(target=read, args=("long", story(1, 500)))
    long.start()
    wait_until(lambda: engine.steps > 2)
    short = threading.Thread(target=read, args=("short", story(2, 40)))
    short.start()
    long.join()
    short.join()
    assert ends == ["short", "long"]


def started(engine: Engine, *requests: Request) -> tuple[list[Generation], list[Future[list[int]]]]:
    """Begin them in this order, before a prompt of more than a few steps is read; return their texts, too."""
    generations = [engine.generate(request) for request in requests]
    pool, texts = ThreadPoolExecutor(len(requests)), []
    for generation in generations:
        texts.append(pool.submit(list[int], generation))
        wait_until(lambda: sum(engine.load) == len(texts))
    pool.shutdown(wait=False)
    return generations, texts


def test_a_beginning_that_several_share_is_read_once(tiny_model: JambaForCausalLM) -> None:
    engine, shared = Engine(tiny_model, chunk=4), story(1, 400)
    prompts = [shared, shared, [*shared, *story(2, 50)], [*shared, *story(3, 30)], shared[:300], shared]
    generations, texts = started(engine, *(Request(prompt_ids=ids, params=greedy(12)) for ids in prompts))
    assert [text.result() for text in texts] == [alone(tiny_model, ids, 12) for ids in prompts]
    read = [each.stats.prefill_tokens for each in generations]
    # The one that ends within the shared part needs the logits there, and states are 64 tokens apart.
    assert read == [400, 0, 50, 30, 300 - 256, 0]
    assert [each.stats.reused_tokens for each in generations] == [0, 400, 400, 400, 256, 400]


@pytest.mark.parametrize("count", [1, 5])
def test_who_waits_may_end_with_the_first_token(tiny_model: JambaForCausalLM, count: int) -> None:
    engine, prompt = Engine(tiny_model, chunk=4), story(1, 200)
    (first,) = alone(tiny_model, prompt, 1)
    for stops, expected in (({first}, []), (set[int](), alone(tiny_model, prompt, count))):
        asked = Request(prompt_ids=prompt, params=greedy(count), stop_ids=frozenset(stops))
        generations, texts = started(engine, asked, asked, asked)
        assert [text.result() for text in texts] == [expected] * 3
        assert [each.stats.written_tokens for each in generations] == [len(expected)] * 3
        engine.cache.forget()
    assert not engine.closed


def test_who_waits_may_fail_at_the_first_token(tiny_model: JambaForCausalLM) -> None:
    class Broken:
        finished = False

        def allowed(self) -> torch.Tensor:
            raise InputError("nothing can come here")

        def commit(self, token: int) -> None:
            raise AssertionError

    engine, prompt = Engine(tiny_model, chunk=4), story(1, 200)
    well = Request(prompt_ids=prompt, params=greedy(3))
    ill = Request(prompt_ids=prompt, params=greedy(3), constraint=Broken())
    _, texts = started(engine, well, ill, well)
    with pytest.raises(InputError, match="nothing can come here"):
        texts[1].result()
    assert texts[0].result() == texts[2].result() == alone(tiny_model, prompt, 3)


def test_who_waits_for_one_that_leaves_goes_on_from_there(tiny_model: JambaForCausalLM) -> None:
    engine, prompt = Engine(tiny_model, chunk=4), story(1, 480)
    generations, texts = started(engine, *(Request(prompt_ids=prompt, params=greedy(5)) for _ in range(4)))
    generations[0].close()
    first, *others = (text.result() for text in texts)
    assert first == []
    assert others == [alone(tiny_model, prompt, 5)] * 3
    assert sorted(each.stats.prefill_tokens for each in generations[1:]) == [0, 0, 480]


def test_nobody_waits_for_one_of_another_space_or_without_room_for_its_state(
    tiny_model: JambaForCausalLM,
) -> None:
    prompt = story(1, 200)
    for max_bytes, spaces in ((2**30, ("one", "other")), (0, ("one", "one"))):
        engine = Engine(tiny_model, chunk=4, cache=StoryCache(max_bytes=max_bytes))
        asked = (Request(prompt_ids=prompt, params=greedy(5), space=space) for space in spaces)
        generations, texts = started(engine, *asked)
        assert all(stream.lead is None for stream in engine._running)
        assert [text.result() for text in texts] == [alone(tiny_model, prompt, 5)] * 2
        assert [each.stats.prefill_tokens for each in generations] == [200, 200]


def test_where_the_state_is_evicted_at_once_everybody_reads(tiny_model: JambaForCausalLM) -> None:
    engine, prompt = Engine(tiny_model, chunk=4, cache=StoryCache(max_bytes=1)), story(1, 200)
    generations, texts = started(engine, *(Request(prompt_ids=prompt, params=greedy(5)) for _ in range(3)))
    assert [text.result() for text in texts] == [alone(tiny_model, prompt, 5)] * 3
    assert [each.stats.prefill_tokens for each in generations] == [200] * 3


def test_one_that_leaves_frees_its_place_within_a_step(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, max_streams=1)
    first = engine.generate(Request(prompt_ids=story(1, 9), params=greedy(100_000)))
    next(first)
    second = engine.generate(Request(prompt_ids=story(2, 9), params=greedy(3)))
    third = engine.generate(Request(prompt_ids=story(3, 9), params=greedy(3)))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(list, second)
        wait_until(lambda: engine.load == (1, 1))
        gone = pool.submit(list, third)
        wait_until(lambda: engine.load == (1, 2))
        third.close()  # while it waits
        assert gone.result() == []
        at = engine.steps
        first.close()
        assert engine.steps - at <= 2
        assert len(waiting.result()) == 3
    assert first.finish_reason == "cancelled"
    assert engine.load == (0, 0)


def test_too_many_are_refused_and_a_deadline_counts_while_waiting(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, max_streams=1, max_waiting=1)
    first = engine.generate(Request(prompt_ids=story(1, 9), params=greedy(100_000)))
    next(first)
    second = engine.generate(Request(prompt_ids=story(2, 9), params=greedy(3), seconds=0.3))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, second)
        wait_until(lambda: engine.load == (1, 1))
        with pytest.raises(EngineBusy, match="1 requests are waiting already"):
            next(engine.generate(Request(prompt_ids=[5], params=greedy(1))))
        assert waiting.result() == []
    assert second.finish_reason == "deadline"
    first.close()


def test_a_request_that_fails_fails_alone_and_the_engine_goes_on(
    tiny_model: JambaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "read_together", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(engine.generate(Request(prompt_ids=story(1, 9), params=greedy(5))))
    assert list(engine.generate(Request(prompt_ids=story(1, 9), params=greedy(5)))) == alone(
        tiny_model, story(1, 9), 5
    )


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, RuntimeError])
def test_whatever_a_writer_raises_reaches_its_reader_alone(
    tiny_model: JambaForCausalLM, error: type[BaseException]
) -> None:
    class Raising:
        done = wants_more = False

        def write(self, token: int) -> None:
            raise error

    engine = Engine(tiny_model)
    other = engine.generate(Request(prompt_ids=story(1, 9), params=greedy(300)))
    next(other)
    with pytest.raises(error):
        list(engine.generate(Request(prompt_ids=story(2, 9), params=greedy(5), writer=Raising())))
    assert len(list(other)) == 299


def test_when_the_engine_s_thread_breaks_everybody_is_told(
    tiny_model: JambaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model)
    first = engine.generate(Request(prompt_ids=story(1, 9), params=greedy(100_000)))
    next(first)
    monkeypatch.setattr(engine, "_batch", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(first)
    first.close()
    late = engine.generate(Request(prompt_ids=[5], params=greedy(1)))
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match="closed"):
            next(late)
    late.close()


def test_a_cache_that_fails_costs_the_snapshot(
    tiny_model: JambaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model)
    monkeypatch.setattr(engine.cache, "put", lambda *_: 1 / 0)
    assert list(engine.generate(Request(prompt_ids=story(1, 9), params=greedy(5)))) == alone(
        tiny_model, story(1, 9), 5
    )
    assert engine.unkept == 2


def test_a_writer_may_close_its_own_generation_and_the_engine(tiny_model: JambaForCausalLM) -> None:
    class Closing:
        done = wants_more = False
        close: Callable[[], None]

        def write(self, token: int) -> None:
            self.close()

    engine = Engine(tiny_model)
    writer = Closing()
    generation = engine.generate(Request(prompt_ids=story(1, 9), params=greedy(100_000), writer=writer))
    writer.close = generation.close
    assert len(list(generation)) == 1
    assert generation.finish_reason == "cancelled"
    generation = engine.generate(Request(prompt_ids=story(2, 9), params=greedy(100_000), writer=writer))
    writer.close = engine.close
    assert len(list(generation)) == 1


def test_a_generation_that_nobody_holds_leaves(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model)
    for _ in engine.generate(Request(prompt_ids=story(1, 9), params=greedy(100_000))):
        break
    wait_until(lambda: gc.collect() >= 0 and engine.load == (0, 0))


def test_a_caller_s_array_may_change_afterwards(tiny_model: JambaForCausalLM) -> None:
    engine, prompt = Engine(tiny_model), np.array(story(1, 40), np.int32)
    generation = engine.generate(Request(prompt_ids=prompt, params=greedy(5)))
    first = next(generation)
    prompt[:] = story(2, 40)
    assert [first, *generation] == alone(tiny_model, story(1, 40), 5)
    other = [*story(2, 40), *alone(tiny_model, story(2, 40), 5)]
    assert list(engine.generate(Request(prompt_ids=other, params=greedy(5)))) == alone(tiny_model, other, 5)


def test_snapshots_of_a_batch_hold_their_own_bytes_alone(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model)
    generations = [engine.generate(Request(prompt_ids=story(n, 9), params=greedy(9))) for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(list, generations))
    for node in engine.cache.nodes():
        if node.snapshot is not None and node.snapshot.logits_V is not None:
            assert node.snapshot.logits_V.untyped_storage().nbytes() == node.snapshot.logits_V.nbytes


def test_as_many_as_there_are_places_for_never_meet_a_full_queue(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, max_streams=32, max_waiting=1)
    generations = [engine.generate(Request(prompt_ids=story(n, 200), params=greedy(3))) for n in range(30)]
    with ThreadPoolExecutor(30) as pool:
        written: list[list[int]] = list(pool.map(list, generations))
    assert [len(tokens) for tokens in written] == [3] * 30


def test_closing_ends_everybody_and_nobody_begins_after(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model, max_streams=1)
    generations = [engine.generate(Request(prompt_ids=story(n, 9), params=greedy(100_000))) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(list, generation) for generation in generations]
        wait_until(lambda: engine.load == (1, 2))
        engine.close()
        assert sum(bool(each.result()) for each in running) == 1
    assert {generation.finish_reason for generation in generations} == {"cancelled"}
    with pytest.raises(EnvironmentFault, match="closed"):
        next(engine.generate(Request(prompt_ids=[5], params=greedy(1))))


def test_an_engine_nobody_holds_ends_its_thread(tiny_model: JambaForCausalLM) -> None:
    engine = Engine(tiny_model)
    list(engine.generate(Request(prompt_ids=[5, 6], params=greedy(2))))
    gone, thread = weakref.ref(engine), engine._thread
    assert thread is not None
    del engine
    wait_until(lambda: gc.collect() >= 0 and gone() is None and not thread.is_alive())


def test_requests_that_come_and_go_leave_nothing_behind(tiny_model: JambaForCausalLM) -> None:
    cache = StoryCache(max_bytes=1 << 18)
    engine, draw = Engine(tiny_model, cache=cache, max_streams=8), random.Random(5)

    def one(seed: int) -> None:
        generation = engine.generate(Request(prompt_ids=story(seed, 40), params=greedy(30)))
        for place, _ in enumerate(generation):
            if place == seed % 50:
                generation.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, (draw.randrange(10_000) for _ in range(60))))
        gc.collect()
        before = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
        list(pool.map(one, (draw.randrange(10_000) for _ in range(120))))
    gc.collect()
    assert engine.load == (0, 0)
    assert cache.nbytes <= cache.max_bytes
    assert sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()) < before + 100


OPERATIONS = 3000


def test_thousands_of_turns_forks_undos_cancellations_and_restarts(tmp_path: Path) -> None:
    """Against a plain oracle: every text that came to its end is the one an engine without memory writes."""
    write_adapters(tmp_path)
    turns = Interleaved(tmp_path, seed=11)
    for _ in range(OPERATIONS):
        turns.step()
    turns.close()
    done = turns.done
    assert done["compared"] > 250
    assert done["compared with adapters"] > 50
    assert done["found"] > 5_000
    assert done["cancelled"] > 50
    assert done["restarted"] > 3


def test_killed_in_the_midst_of_it_again_and_again(tmp_path: Path) -> None:
    """What the next process finds on disk is right, however the one before ended."""
    write_adapters(tmp_path)
    draw, compared, found = random.Random(4), 0, 0
    for seed in range(4):
        command = [sys.executable, "-m", "tests.engine.interleaved", str(tmp_path), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [line for _, line in zip(range(draw.randrange(8, 25)), process.stdout, strict=False)]
            time.sleep(draw.random() * 0.05)
            process.kill()
        assert process.returncode == -signal.SIGKILL  # it had not ended by itself, by a text that was wrong
        compared += int(lines[-1].split()[0])
        found += int(lines[-1].split()[1])
    assert compared > 60
    assert found > 1_000
    last = Interleaved(tmp_path, seed=99)
    for _ in range(200):
        last.step()
    last.close()
    assert last.done["compared"] > 10
