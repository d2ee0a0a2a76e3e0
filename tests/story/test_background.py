"""Coroutines in a thread of their own: each is told of its end, or does not begin."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncGenerator

import anyio
import pytest

from spellbound.errors import EnvironmentFault
from spellbound.story.background import Background


def test_nothing_begins_while_the_last_ones_end() -> None:
    background, told = Background("test"), list[BaseException | None]()
    begun, ending, go_on = threading.Event(), threading.Event(), threading.Event()

    async def slow_to_end() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ending.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)

    background.begin(slow_to_end(), told.append)
    assert begun.wait(5)
    closing = threading.Thread(target=background.close)
    closing.start()
    assert ending.wait(5)
    with pytest.raises(EnvironmentFault, match="closed"):
        background.begin(slow_to_end(), told.append)
    go_on.set()
    closing.join(5)
    assert [type(each) for each in told] == [asyncio.CancelledError]
    background.close()


def test_whatever_was_begun_before_the_end_is_told_of_it() -> None:
    for _ in range(50):
        background, told = Background("test"), list[BaseException | None]()
        for _ in range(5):
            background.begin(asyncio.sleep(60), told.append)
        background.close()
        assert [type(each) for each in told] == [asyncio.CancelledError] * 5


def test_a_generator_that_was_left_open_is_closed_to_its_end() -> None:
    background, told = Background("test"), list[BaseException | None]()
    opened, closed = threading.Event(), threading.Event()

    async def lines() -> AsyncGenerator[int]:
        try:
            while True:
                yield 1
        finally:
            for _ in range(10):  # as a connection does that says goodbye
                await asyncio.sleep(0.01)
            closed.set()

    async def reads() -> None:
        async for _ in lines():
            opened.set()
            await asyncio.sleep(60)

    background.begin(reads(), told.append)
    assert opened.wait(5)
    background.close()
    assert [type(each) for each in told] == [asyncio.CancelledError]
    assert closed.is_set()


def test_what_does_not_end_by_itself_is_cancelled_in_the_end() -> None:
    background, told, left = Background("test"), list[BaseException | None](), list[asyncio.Task[None]]()
    ready = threading.Event()

    async def leaves_one() -> None:
        left.append(asyncio.create_task(asyncio.sleep(1000)))
        ready.set()

    background.begin(leaves_one(), told.append)
    assert ready.wait(5)
    background.close()
    assert not background._thread.is_alive()
    assert left[0].cancelled()


def test_children_that_have_not_begun_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: left.append(found.object))
    background, told = Background("test"), list[BaseException | None]()

    async def connects() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)
            background._loop.stop()  # the end comes before the child's first step

    background.begin(connects(), told.append)
    background._thread.join(5)
    gc.collect()
    assert [type(each) for each in told] == [asyncio.CancelledError]
    assert left == []
