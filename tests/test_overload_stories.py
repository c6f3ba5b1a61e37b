"""Single stories of the inbound side under pressure, played whole in virtual time as the seeds are."""

from overload_check import Checker
from overload_plan import Item, Plan, Restart, Trouble, Webhook
from overload_story import Story
from overload_world import play

from gateway.config import load
from gateway.overload.ladder import Rung

CALM = Trouble(0.002)


def plan(webhooks: list[Webhook], events: Trouble = CALM, /, **variables: str) -> Plan:
    environ = {f"GATEWAY_{name}": value for name, value in {"STORE_MAX_BYTES": "16MiB", **variables}.items()}
    return Plan(0, load(environ), tuple(webhooks), masks={}, messages=CALM, events=events)


def played(subject: Plan) -> Story:
    story = play(subject)
    assert Checker(subject, story).violations() == []
    return story


def receipts(count: int, every_s: float, word: str = "read") -> list[Webhook]:
    return [
        Webhook(number * every_s, (Item(word, f"out-{number}", "1"),), is_cloud=False)
        for number in range(count)
    ]


def test_one_receipt_that_fails_for_ever_presses_nobody() -> None:
    """Its age alone would take the ladder to its top, and then no receipt would come in to show that all is well."""
    poisoned = Trouble(0.002, poison_share=1.0, poison_status=500)
    messages = [Webhook(at_s, (Item("message", f"in-{at_s}", "1"),), is_cloud=False) for at_s in range(20)]
    story = played(plan([*receipts(1, 0.0), *messages], poisoned, RECEIPTS_WAIT_MAX="10s"))
    assert {look.rung for look in story.looks} == {Rung.FORWARD}
    assert sum(post.status == 500 for post in story.posts) > 3


def test_a_wait_that_a_policy_asks_for_presses_nobody() -> None:
    story = played(
        plan(receipts(100, 0.1), CALM, RECEIPTS_READ="batch", BATCH_DELAY="3s", RECEIPTS_WAIT_MAX="10s")
    )
    assert {look.rung for look in story.looks} == {Rung.FORWARD}
    assert max(len(post.keys) for post in story.posts) >= 29


def test_receipts_that_really_wait_climb_the_ladder_and_messages_go_on() -> None:
    slow = Trouble(2.0, places=1)
    story = played(plan(receipts(300, 0.05), slow, RECEIPTS_WAIT_MAX="10s", BATCH_RECEIPTS="1"))
    assert max(look.rung for look in story.looks) >= Rung.SHED_GROUP_READ


def test_a_kill_between_the_disk_and_the_answer_counts_each_receipt_once() -> None:
    """Everything that was submitted is on disk, nobody was told, and the node repeats it."""
    webhooks = receipts(200, 0.02, "delivered")
    subject = plan(webhooks, RECEIPTS_DELIVERED="drop")
    for turns in range(6):
        restarts = tuple(
            Restart(at_s, is_graceful=False, turns=turns, is_written=True, away_s=0.1)
            for at_s in (0.507, 1.007, 2.007, 3.007)  # 2 ms after a webhook, and 3 before its commit
        )
        crashing = Plan(
            0, subject.settings, subject.webhooks, {}, CALM, CALM, restarts, commit_s=((0.0, 0.005),)
        )
        assert played(crashing).duplicates == len(restarts)
