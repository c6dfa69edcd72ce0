"""Questions that are asked seldom, by a clock that is set by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from probe import seldom
from probe.seldom import Seldom


@dataclass
class World:
    """A record that takes its time, and who remembers what it says."""

    now: float = 1000.0
    takes: float = 0.0
    asked: list[str] = field(default_factory=list)
    broken: bool = False
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.memory = Seldom(lambda: self.now)

    async def ask(self, key: str = "a") -> str:
        async def question() -> str:
            self.asked.append(key)
            if key == "slow":
                await self.go.wait()
            self.now += self.takes
            if self.broken:
                raise LookupError(key)
            return f"{key} {self.asked.count(key)}"

        return await self.memory.ask(key, question)


@pytest.fixture
async def world() -> World:
    return World()


async def test_however_many_ask_the_same_it_is_asked_once(world: World) -> None:
    assert await asyncio.gather(*(world.ask() for _ in range(9)), world.ask("b")) == [*["a 1"] * 9, "b 1"]
    assert world.asked == ["a", "b"]


async def test_whoever_asked_first_may_go_away(world: World) -> None:
    first, second = (asyncio.create_task(world.ask("slow")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    world.go.set()
    assert await second == "slow 1"
    assert await world.ask("slow") == "slow 1"


@pytest.mark.parametrize(("takes", "fresh"), [(0.0, 30.0), (0.25, 30.0), (3.0, 300.0)])
async def test_an_answer_is_good_for_the_longer_the_longer_it_took(world: World, takes: float, fresh: float) -> None:
    world.takes = takes
    assert await world.ask() == "a 1"
    world.now += fresh - 0.01
    assert await world.ask() == "a 1"
    world.now += 0.02
    assert await world.ask() == "a 2"


async def test_what_failed_is_asked_again_soon_but_not_at_once(world: World) -> None:
    world.broken, world.takes = True, 3.0
    for _ in range(3):
        with pytest.raises(LookupError):
            await world.ask()
    assert world.asked == ["a"]
    world.now, world.broken = world.now + 5.0, False
    assert await world.ask() == "a 2"


async def test_so_many_answers_are_kept_and_the_oldest_go_but_none_for_which_somebody_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldom, "_KEPT", 3)
    waiting = asyncio.create_task(world.ask("slow"))
    await asyncio.sleep(0)
    for key in "abcd":
        await world.ask(key)
    world.go.set()
    assert await waiting == "slow 1"
    world.asked.clear()
    for key in ("d", "c", "slow", "a"):
        await world.ask(key)
    assert world.asked == ["a"]
