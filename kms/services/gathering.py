"""One act for all who ask for it at the same time.

Whoever asks while nothing runs under a key begins an act; who asks meanwhile waits for the next one. So each is answered by
an act that began after it asked, as one of its own would have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

MOST_TOGETHER: Final = 64  # in one act

Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Gathering(Generic[Key, Asked, Answer]):
    """Does acts for groups of callers, one after another under each key; how many wait is bounded by how many calls there are."""

    def __init__(
        self, act: Callable[[Key, Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]], most: int = MOST_TOGETHER
    ) -> None:
        """*act* returns an answer, or an error, for each that asked, or raises one for all of them; *most* ask at once."""
        self._act = act
        self._most = most
        self._waiting: dict[Key, list[tuple[Asked, asyncio.Future[Answer]]]] = {}
        self._workers: set[asyncio.Task[None]] = set()

    async def ask(self, key: Key, asked: Asked) -> Answer:
        """Return the answer to what is asked.

        A caller that is cancelled is left out, or leaves an act running that has begun.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            # It works for all of them, so in nobody's context.
            worker = asyncio.create_task(self._work(key, waiting), context=Context())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        waiting.append((asked, answer))
        return await answer

    async def _work(self, key: Key, waiting: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        group: list[tuple[Asked, asyncio.Future[Answer]]] = []
        try:
            while waiting:
                group = [one for one in waiting[: self._most] if not one[1].done()]
                del waiting[: self._most]
                if group:
                    await self._answered(key, group)
        finally:
            del self._waiting[key]
            for _, answer in (*group, *waiting):  # the loop ends
                answer.cancel()

    async def _answered(self, key: Key, group: Sequence[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._act(key, [asked for asked, _ in group])
        except Exception as error:  # noqa: BLE001  whoever waits gets it
            answers = [error] * len(group)
        for (_, waiter), answer in zip(group, answers, strict=True):
            if waiter.done():  # its caller has gone
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
