"""The HTTP client in stories of chance: whatever happens, each request ends once and nothing is sent twice."""

import asyncio
import random

import pytest
from http_rig import OK, TIMEOUT_S, Rig, play, settle

from gateway._fast.connection import PIECE_BYTES
from gateway._fast.exchange import Exchange
from gateway._fast.response import Response

ANSWERS = [
    OK,
    OK,
    OK,
    b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nbad",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nok",
    b"HTTP/1.1 204 No\r\n\r\n",
    OK + b"!",
    b"garbage",
]


class Story:
    """One of them. A body ends in the number of its request, by which what is on the wires is recognised."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.random = random.Random(seed)
        self.exchanges: list[Exchange] = []
        self.answers: dict[int, Response] = {}
        self.cancelled: set[int] = set()

    def begin(self) -> None:
        number = len(self.exchanges)
        size = self.random.choice([0, 0, 0, 0, PIECE_BYTES, 3 * PIECE_BYTES])

        def done(response: Response) -> None:
            assert number not in self.answers, "answered twice"
            assert number not in self.cancelled, "answered though cancelled"
            self.answers[number] = response
            if self.random.random() < 0.2:
                self.begin()

        self.exchanges.append(self.rig.endpoint.start(b"." * size + b"%06d" % number, b"", done))

    def cancel(self) -> None:
        number = self.random.randrange(max(0, len(self.exchanges) - 6), len(self.exchanges) + 1)
        if number < len(self.exchanges):
            self.exchanges[number].cancel()
            self.cancelled.update({number} - self.answers.keys())

    def at_the_other_end(self) -> None:
        wires = self.rig.network.open_wires
        if not wires:
            return
        wire = self.random.choice(wires)
        match self.random.choice(["say", "say", "say", "cut", "hang up", "reset", "room", "broken"]):
            case "say":
                wire.say(self.random.choice(ANSWERS))
            case "cut":
                answer = self.random.choice(ANSWERS)
                at = self.random.randrange(1, len(answer))
                wire.say(answer[:at])
                if not wire.is_closing():
                    wire.say(answer[at:])
            case "hang up":
                wire.hang_up()
            case "reset":
                wire.reset()
            case "room":
                wire.give_room(self.random.choice([None, 5, 50_000]))
            case "broken":
                wire.is_broken = True

    def change_the_network(self) -> None:
        network = self.rig.network
        network.error = self.random.choice([None, None, None, OSError("no")])
        if network.gate.is_set():
            network.gate.clear()
        else:
            network.gate.set()

    async def step(self) -> None:
        match self.random.choice(
            ["begin"] * 6 + ["other"] * 9 + ["cancel", "network"] + ["go on"] * 3 + ["wait"]
        ):
            case "begin":
                self.begin()
            case "other":
                self.at_the_other_end()
            case "cancel":
                self.cancel()
            case "network":
                self.change_the_network()
            case "go on":
                for _ in range(self.random.randrange(6)):
                    await asyncio.sleep(0)
            case "wait":
                await asyncio.sleep(self.random.choice([0.1, 3, TIMEOUT_S, 61]))

    async def play(self, limit: int) -> None:
        self.rig.network.prepare = lambda wire: setattr(
            wire, "room", self.random.choice([None, None, None, 0, 10, 70_000])
        )
        for _ in range(100):
            await self.step()
            statistics = self.rig.statistics()
            assert statistics["in_use"] + statistics["idle"] <= limit
            assert len(self.rig.network.open_wires) <= limit
        if self.random.random() < 0.5:
            await self.rig.http.close()
            await settle()
        else:
            # Each answer may have begun another.
            while any(not exchange.is_over for exchange in self.exchanges):
                await asyncio.sleep(TIMEOUT_S + 0.001)
        self.judge()

    def judge(self) -> None:
        assert all(exchange.is_over for exchange in self.exchanges)
        assert self.answers.keys() | self.cancelled == set(range(len(self.exchanges)))
        sent = b"".join(wire.taken + wire.waiting for wire in self.rig.network.wires)
        for number in range(len(self.exchanges)):
            times = sent.count(b"%06d" % number)
            answer = self.answers.get(number)
            assert times <= 1, f"request {number} was sent {times} times"
            assert not (times and answer and not answer.was_sent), (
                f"request {number} was sent, and told not to be"
            )


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_whatever_happens_each_request_ends_once_and_is_sent_once(limit: int) -> None:
    for seed in range(100):

        async def story(rig: Rig, seed: int = seed) -> None:
            await Story(rig, seed).play(limit)

        try:
            play(story, connections=limit)
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}", pytrace=False)
