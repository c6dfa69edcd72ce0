"""Questions that are dear, asked seldom: an answer serves everybody for a while.

Rules:
- However many ask the same, it is asked once at a time; whoever asked first may go away.
- An answer is good for some time, the longer the longer it took; that there was none, only for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar, cast

_FRESH = 30.0  # seconds for which an answer is good, at least,
_SELDOM = 100  # and so many times as long as it took: 3 s where a day has a million probes
_FAILED = 5.0  # seconds after which it is asked again what could not be answered
_KEPT = 200  # answers
_T = TypeVar("_T")


@dataclass(slots=True)
class _Answer:
    future: asyncio.Future[Any]
    until: float = inf


class Seldom:
    """Remembers answers. `time`: the loop's, in seconds."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._answers: dict[Hashable, _Answer] = {}  # the oldest first

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[_T]]) -> _T:
        """The answer to the question that has this key, or what it raised."""
        known = self._answers.get(key)
        if known is None or self._time() >= known.until:
            known = self._put(key, question)
        return cast(_T, await asyncio.shield(known.future))

    def _put(self, key: Hashable, question: Callable[[], Awaitable[_T]]) -> _Answer:
        self._answers.pop(key, None)
        if len(self._answers) >= _KEPT:
            oldest = next((old for old, it in self._answers.items() if it.until < inf), None)
            self._answers.pop(oldest, None)
        began = self._time()
        answer = self._answers[key] = _Answer(asyncio.ensure_future(question()))

        def known(future: asyncio.Future[_T]) -> None:
            now = self._time()
            failed = future.cancelled() or future.exception()
            answer.until = now + (_FAILED if failed else max(_FRESH, _SELDOM * (now - began)))

        answer.future.add_done_callback(known)
        return answer
