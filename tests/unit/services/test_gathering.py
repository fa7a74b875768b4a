"""Whoever asks is answered by one act that began after it asked, and nobody waits for more than two."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from kms.services.gathering import Gathering

whose: ContextVar[str] = ContextVar("whose", default="nobody")


class Acts:
    """Acts that end when they are told to, and what was asked of each."""

    def __init__(self, most: int = 64) -> None:
        self.gathering: Gathering[str, int, str] = Gathering(self.act, most)
        self.begun: list[tuple[str, list[int]]] = []
        self.contexts: list[str] = []
        self.starts = asyncio.Semaphore(0)
        self.turns = asyncio.Semaphore(0)

    async def act(self, key: str, asked: Sequence[int]) -> Sequence[str | Exception]:
        self.begun.append((key, list(asked)))
        self.contexts.append(whose.get())
        self.starts.release()
        await self.turns.acquire()
        if -1 in asked:
            raise LookupError("all of them")
        return [ValueError(one) if one == 0 else f"{key}{one}" for one in asked]

    def ask(self, one: int, key: str = "a") -> asyncio.Task[str]:
        return asyncio.create_task(self.gathering.ask(key, one))

    async def until_begun(self) -> None:
        await self.starts.acquire()

    def finish(self, count: int = 1) -> None:
        for _ in range(count):
            self.turns.release()


async def test_who_asks_while_an_act_runs_shares_the_next_one():
    acts = Acts()
    first = acts.ask(1)
    await acts.until_begun()
    others = [acts.ask(2), acts.ask(3), acts.ask(4)]
    acts.finish(2)
    assert await asyncio.gather(first, *others) == ["a1", "a2", "a3", "a4"]
    assert acts.begun == [("a", [1]), ("a", [2, 3, 4])]


async def test_who_asks_at_the_same_moment_shares_the_first_one():
    acts = Acts()
    acts.finish()
    assert await asyncio.gather(acts.ask(1), acts.ask(2)) == ["a1", "a2"]
    assert acts.begun == [("a", [1, 2])]


async def test_keys_do_not_wait_for_each_other():
    acts = Acts()
    tasks = [acts.ask(1, "a"), acts.ask(1, "b")]
    await acts.until_begun()
    await acts.until_begun()
    acts.finish(2)
    assert await asyncio.gather(*tasks) == ["a1", "b1"]


async def test_no_more_than_so_many_share_an_act():
    acts = Acts(most=2)
    tasks = [acts.ask(number) for number in range(1, 6)]
    acts.finish(3)
    await asyncio.gather(*tasks)
    assert acts.begun == [("a", [1, 2]), ("a", [3, 4]), ("a", [5])]


async def test_an_error_of_one_is_its_own_and_an_error_of_the_act_everybodys():
    acts = Acts()
    tasks = [acts.ask(1), acts.ask(0), acts.ask(2)]
    acts.finish()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in answers] == [str, ValueError, str]
    acts.finish()
    answers = await asyncio.gather(acts.ask(1), acts.ask(-1), return_exceptions=True)
    assert [type(one) for one in answers] == [LookupError, LookupError]
    acts.finish()
    assert await acts.ask(3) == "a3"


async def test_who_leaves_before_an_act_begins_is_left_out_and_later_does_not_stop_it():
    acts = Acts()
    first = acts.ask(1)
    await acts.until_begun()
    second, third = acts.ask(2), acts.ask(3)
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    acts.finish(2)
    assert await third == "a3"
    assert acts.begun == [("a", [1]), ("a", [3])]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_act_for_several_is_in_nobodys_context():
    acts = Acts()
    whose.set("the caller")
    acts.finish()
    await acts.ask(1)
    assert acts.contexts == ["nobody"]


async def test_nothing_is_kept_once_all_are_answered():
    acts = Acts()
    acts.finish(2)
    await asyncio.gather(acts.ask(1, "a"), acts.ask(2, "b"))
    await asyncio.sleep(0)
    assert acts.gathering._waiting == {}
