"""The scenarios by name. Rates follow the plan's TPS, so each takes the same time on every plan.

An incoming message that is answered costs 1 + 2.65 events, a push 2.65. Outside the storms the offered
load stays under half of the plan.
"""

from collections.abc import Callable
from typing import Final

from gateway.sim.receipts import ReceiptModel
from gateway.sim.traffic import (
    BackendOutage,
    BackendTrouble,
    Burst,
    GroupStorm,
    Inbound,
    NodeFault,
    Phase,
    Pushes,
    Scenario,
    TokenExpiry,
)

QUICK: Final = ReceiptModel(delivered_median_s=1.0, delivered_sigma=0.5, read_median_s=3.0, read_sigma=0.5)
"""Customers in a hurry: reads within seconds, so that a short scenario sees its receipts."""


def tour(tps: int) -> Scenario:
    """The demo: steady 8 s, storm 22 s, outage 6 s, calm 6 s; with settling under a minute."""
    return Scenario(
        name="tour",
        summary="steady traffic, a group storm, a backend outage, and back to calm",
        phases=(
            Phase("steady", 0, 8),
            Phase("storm", 8, 30),
            Phase("outage", 30, 36),
            Phase("calm", 36, 42),
        ),
        actions=(
            Inbound(0, 40, 0.05 * tps),
            Pushes(0, 8, 0.07 * tps, "normal"),
            # 3 groups of 64 at 20 TPS: about 320 events, and the storm has room for 400.
            GroupStorm(8, groups=3, members=max(4, round(3.2 * tps)), priority="bulk"),
            # A small campaign on top: sends that wait, for as long as receipts fill the plan.
            Burst(9, tps),
            Pushes(30, 38, 0.04 * tps, "high"),
            BackendOutage(30, 35),
        ),
        settle_s=40,
        receipts=QUICK,
    )


def steady(tps: int) -> Scenario:
    """Half a minute of ordinary traffic with every small trouble.

    Callbacks come twice, batched and out of order; sends fail or lose their answer; the token ends.
    """
    return Scenario(
        name="steady",
        summary="ordinary traffic with the small troubles every node has",
        phases=(Phase("steady", 0, 30),),
        actions=(
            Inbound(0, 30, 0.06 * tps),
            Pushes(0, 30, 0.06 * tps, "normal"),
            NodeFault(5, 25, "duplicate_ratio", 0.05),
            NodeFault(0, 30, "batch_max", 3),
            NodeFault(0, 30, "reorder_window", 5),
            NodeFault(10, 15, "error_ratio", 0.1),
            NodeFault(15, 20, "lost_answer_ratio", 0.1),
            TokenExpiry(22),
            BackendTrouble(20, 25, latency_s=0.1),
        ),
        settle_s=60,
        receipts=ReceiptModel(),
    )


def campaign(tps: int) -> Scenario:
    """Ten seconds of the plan's TPS in bulk sends at once, with customers writing meanwhile."""
    return Scenario(
        name="campaign",
        summary=f"{10 * tps} bulk messages at once while customers write",
        phases=(Phase("steady", 0, 5), Phase("storm", 5, 40)),
        actions=(Inbound(0, 40, 0.05 * tps), Burst(5, 10 * tps)),
        settle_s=120,
        receipts=QUICK,
    )


def storm(tps: int) -> Scenario:
    """Ten groups of 256 members at once: 4,200 events, minutes of a small plan."""
    seconds = 10 * (1 + 256 * 1.65) / (0.7 * tps)
    return Scenario(
        name="storm",
        summary="10 groups of 256 members at once while customers write",
        phases=(Phase("steady", 0, 10), Phase("storm", 10, 10 + seconds)),
        actions=(
            Inbound(0, 10 + seconds, 0.05 * tps),
            GroupStorm(10, groups=10, members=256, priority="bulk"),
        ),
        settle_s=120 + seconds,
        receipts=ReceiptModel(),
    )


def outage(tps: int) -> Scenario:
    """The backend is gone for half a minute, first refusing, then with its socket closed."""
    return Scenario(
        name="outage",
        summary="a backend outage of half a minute with messages and receipts coming in",
        phases=(Phase("steady", 0, 5), Phase("outage", 5, 40), Phase("calm", 40, 50)),
        actions=(
            Inbound(0, 45, 0.06 * tps),
            Pushes(0, 45, 0.06 * tps, "normal"),
            BackendOutage(5, 20, "refuse"),
            BackendOutage(21, 36, "close"),
        ),
        settle_s=120,
        receipts=QUICK,
    )


SCENARIOS: Final[dict[str, Callable[[int], Scenario]]] = {
    "tour": tour,
    "steady": steady,
    "campaign": campaign,
    "storm": storm,
    "outage": outage,
}
