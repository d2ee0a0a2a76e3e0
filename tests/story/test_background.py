"""Coroutines in a thread of their own: each is told of its end, or does not begin."""

import asyncio
import threading

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
