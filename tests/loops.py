"""Async tests on both loops: the service uses uvloop where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine

import pytest
import uvloop


def both_loops(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Runs an async test twice, by name."""

    def run(*, loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: object) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**fixtures))

    wanted = [it.replace(kind=inspect.Parameter.KEYWORD_ONLY) for it in inspect.signature(test).parameters.values()]
    loop = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    functools.update_wrapper(run, test)
    run.__signature__ = inspect.Signature([loop, *wanted])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(run)
