"""The promises of the whole gateway, held against what was seen of one run from outside."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

from whole_plan import Plan, Push
from whole_story import Call, Key, Post, Request, Story

from gateway.config import OFF

_PASSES = {
    "all": {"sent", "delivered", "read", "failed"},
    "none": set[str](),
    "failed": {"failed"},
    "delivered": {"failed", "delivered"},
    "read": {"failed", "delivered", "read"},
}
_ENDED = ("sent", "failed", "expired", "cancelled")


class Checker:
    """Looks at one run."""

    def __init__(self, plan: Plan, story: Story) -> None:
        self.plan = plan
        self.story = story
        self.pushes = {push.tag: push for push in plan.all_pushes()}
        self.sends = {send["id"]: send for send in story.sends}
        self._requests: dict[str, list[Request]] = {}
        for request in story.requests:
            self._requests.setdefault(request.tag, []).append(request)
        self.named = {request.node_id: request for request in story.requests}
        self.taken: dict[Key, list[Post]] = defaultdict(list)
        for post in story.posts:
            for key in post.keys if post.is_taken else ():
                self.taken[key].append(post)
        self.dead = {send_id for send_id, _, _ in story.dead} | {send_id for send_id, _ in story.discarded}
        self.dead_bodies = [body.decode() for _, _, body in story.dead] + [
            body for _, body in story.discarded
        ]
        self.is_off = plan.settings.event_webhook_url == OFF

    def requests(self, tag: str) -> list[Request]:
        """Those that went to the node with a message."""
        return self._requests.get(tag, [])

    def violations(self) -> list[str]:
        """What did not hold, in words; empty when all is well."""
        checks = (
            self._arrivals, self._contacts, self._receipts, self._books,
            self._accepted, self._truth, self._once, self._known, self._after_its_end, self._told,
            self._answers, self._keys, self._states, self._times,
            self._recipients, self._order, self._window, self._masks, self._replies, self._batches,
        )  # fmt: skip
        return self.story.problems + [found for check in checks for found in check()]

    # -- what the node brought

    @cached_property
    def acked_ns(self) -> dict[Key, int]:
        """When an item was answered 200 for the first time."""
        acked: dict[Key, int] = {}
        for offer in self.story.offers:
            for key in offer.keys if offer.status == 200 else ():
                acked.setdefault(key, offer.ended_ns)
        return acked

    @cached_property
    def offered_ns(self) -> dict[Key, int]:
        offered: dict[Key, int] = {}
        for offer in self.story.offers:
            for key in offer.keys:
                offered.setdefault(key, offer.began_ns)
        return offered

    def _is_dead(self, key: Key) -> bool:
        return any(f'"{key[1]}"' in body for body in self.dead_bodies)

    def _arrivals(self) -> Iterator[str]:
        """Messages and failures reach the backend, or are dead letters that it refused."""
        for key in self.offered_ns:
            if key not in self.acked_ns:
                yield f"{key} was never acked"
            if key[0] not in ("message", "failed") or (key[0] == "failed" and self.is_off):
                continue
            if key not in self.taken and not self._is_dead(key):
                yield f"{key} was acked and never reached the backend"
        refused = {key for post in self.story.posts if not post.is_taken for key in post.keys}
        for post in self.story.posts:
            for key in post.keys:
                if key not in self.offered_ns:
                    yield f"{key} was posted and never offered"
                elif (key[0] == "message") != (post.destination == "message"):
                    yield f"{key} went to the {post.destination} webhook"
        for key in self.offered_ns:
            if key[0] == "message" and key not in refused and self._is_dead(key):
                yield f"{key} is a dead letter and was never refused"

    def _contacts(self) -> Iterator[str]:
        """Messages of one contact come to the backend in the order in which they were acked."""
        first: dict[Key, tuple[int, int]] = {}
        for post in self.story.posts:
            for key in post.keys if post.is_taken else ():
                first.setdefault(key, (post.began_ns, post.number))
        of_contact: dict[str, list[Key]] = defaultdict(list)
        for key in self.offered_ns:
            if key[0] == "message" and key in first and key in self.acked_ns and not self._is_dead(key):
                of_contact[key[2]].append(key)
        parked = {key for key in first if self._was_parked(key)}
        for keys in of_contact.values():
            for one in keys:
                for other in keys:
                    is_before = self.acked_ns[one] < self.offered_ns[other]
                    if is_before and first[one] > first[other] and one not in parked:
                        yield f"{other} came to the backend before {one}"
        under_way: dict[str, Post] = {}
        for post in self.story.posts:
            if post.destination != "message":
                continue
            who = post.keys[0][2]
            before = under_way.get(who)
            if before is not None and self._until_ns(before) > post.began_ns:
                yield f"two requests of {who} at once: posts {before.number} and {post.number}"
            under_way[who] = post

    def _was_parked(self, key: Key) -> bool:
        """Whether an operator may have brought it back from the dead."""
        return bool(self.story.retried) and any(
            key in post.keys and not post.is_taken for post in self.story.posts
        )

    def _until_ns(self, one: Post | Request) -> int:
        """When the gateway was done with it: answered, or itself gone."""
        if one.ended_ns is not None:
            return one.ended_ns
        ended_ns = self.story.lives[one.life].ended_ns
        assert ended_ns is not None
        return ended_ns

    def _receipts(self) -> Iterator[str]:
        """Receipts are forwarded, digested, or counted as dropped; without a crash to the last one."""
        keys = [key for key in self.acked_ns if key[0] in ("delivered", "read")]
        gone = [key for key in keys if key in self.taken or self._is_dead(key)]
        dropped = sum(count for life in self.story.lives for count in life.dropped.values())
        expired = sum(self.story.books[word, "expired"] for word in ("delivered", "read"))
        if any(life.how in ("kill", "disk") for life in self.story.lives):
            return  # what is counted in memory is counted from each start, and a repeat may be folded
        if len(keys) - len(gone) > dropped + expired:
            yield f"of {len(keys)} receipts {len(gone)} were forwarded, {dropped} dropped, {expired} expired"

    def _books(self) -> Iterator[str]:
        books = self.story.books
        for kind in ("message", "delivered", "read"):
            count = sum(key[0] == kind for key in self.acked_ns)
            ended = sum(number for (of, outcome), number in books.items() if of == kind and outcome)
            retried = sum(
                number for (of, outcome), number in books.items() if of == kind and outcome == "failed"
            )
            if books[kind, None] != ended:
                yield f"{kind}: {books[kind, None]} accepted, {ended} ended"
            if not count <= books[kind, None] <= count + retried:
                yield f"{kind}: {count} acked, in the books {books[kind, None]}"
        count = len(self.story.sends)
        outcomes = Counter(send["state"] for send in self.story.sends)
        if books["send", None] != count:
            yield f"{count} sends are told of, in the books {books['send', None]}"
        for state in _ENDED:
            number = books["send", "delivered" if state == "sent" else state]
            if outcomes[state] != number:
                yield f"{outcomes[state]} sends are {state}, in the books {number}"

    # -- what became of sends

    @cached_property
    def ids(self) -> dict[str, list[str]]:
        """The ids that were told of each message, dead letters tried again too."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for call in self.story.calls:
            if call.what in ("push", "batch") and call.status == 202:
                for push, send_id in zip(call.pushes, call.ids(), strict=True):
                    if send_id:
                        found[push.tag][send_id] = None
        for send in self.story.sends:
            if send["node_id"] in self.named:
                found[self.named[send["node_id"]].tag][send["id"]] = None
        before = {new: old for old, new in self.story.retried.items()}
        for ids in found.values():
            for table in (before, self.story.retried):
                for one in list(ids):
                    other = one
                    while other in table:
                        other = table[other]
                        ids[other] = None
        return {tag: sorted(ids, key=_seq) for tag, ids in found.items()}

    @cached_property
    def tried_again(self) -> set[str]:
        """Messages of which a dead letter was tried again, or may have been: they are several sends."""
        retried = self.story.retried.keys() | self.story.retried.values()
        return {
            tag
            for tag, ids in self.ids.items()
            if not retried.isdisjoint(ids)
            or (self.story.is_retry_unheard and any(send["state"] == "failed" for send in self._of(tag)))
        }

    def _of(self, tag: str) -> list[dict[str, Any]]:
        return [self.sends[send_id] for send_id in self.ids.get(tag, ()) if send_id in self.sends]

    def _accepted(self) -> Iterator[str]:
        """What was accepted is known for ever, and has ended."""
        for tag, ids in self.ids.items():
            for send_id in ids:
                if send_id not in self.sends:
                    yield f"{tag} was accepted as {send_id}, and is not known"
        for send in self.story.sends:
            if send["state"] not in _ENDED:
                yield f"{send['id']} has not ended: {send['state']}"

    def _truth(self) -> Iterator[str]:
        """SENT: the node has it, and said so. Else it has it only where nobody can know."""
        for send in self.story.sends:
            if send["state"] == "sent":
                request = self.named.get(send["node_id"])
                if request is None or request.took_ns is None or not request.is_known:
                    yield f"{send['id']} is sent as {send['node_id']}, and the node did not take it"
                elif request.to != send["to"]:
                    yield f"{send['id']} to {send['to']} is sent as {request.node_id}, to {request.to}"
        for tag, requests in self._requests.items():
            sends = self._of(tag)
            is_sent = any(send["state"] == "sent" for send in sends)
            is_open = any(request.is_open for request in requests)
            taken = [request for request in requests if request.took_ns is not None]
            if taken and sends and not is_sent and not is_open and not self._may_be_cut(taken):
                yield f"{tag} was taken as {taken[0].node_id}, and is {[send['state'] for send in sends]}"

    def _may_be_cut(self, requests: Iterable[Request]) -> bool:
        """Whether a process ended between the answer to one of them and its commit."""
        return any(not self._is_on_disk(request) for request in requests)

    def _is_on_disk(self, request: Request) -> bool:
        """Whether what the node has answered is on disk for sure: there was a commit after it."""
        if request.ended_ns is None:
            return False
        commits_ns = self.story.lives[request.life].commits_ns
        return bisect_right(commits_ns, request.ended_ns) < len(commits_ns)

    def _once(self) -> Iterator[str]:
        """It goes again only after an answer that is no 2xx, or none, or a crash before that was on disk."""
        for tag, requests in self._requests.items():
            for before, again in pairwise(requests):
                if again.began_ns < self._until_ns(before):
                    yield f"{tag} is sent twice at once: {before.node_id} and {again.node_id}"
                if before.is_known and self._is_on_disk(before):
                    yield f"{tag} is sent again as {again.node_id} after {before.node_id} was known to be taken"
        for tag in self.pushes:
            is_unknown = not self.ids.get(tag) and bool(self.story.retried or self.story.is_retry_unheard)
            if not self._is_parked(tag) or tag in self.tried_again or is_unknown:
                continue
            taken = [request for request in self.requests(tag) if request.took_ns is not None]
            if len(taken) > 1:
                yield f"{tag} may go once at most, and the node took {[request.node_id for request in taken]}"

    def _known(self) -> Iterator[str]:
        """What was told to be sent is not sent again."""
        for call in self.story.calls:
            if call.what == "query" and call.answer.get("state") == "sent":
                for request in self.requests(call.pushes[0].tag):
                    if request.began_ns > call.ended_ns:
                        yield f"{request.tag} was told to be sent, and goes again as {request.node_id}"

    def _ends_told(self) -> Iterator[tuple[str, str, int]]:
        """(id, outcome, when) of all that was told in answers and to the event webhook."""
        for call in self.story.calls:
            if call.what in ("query", "cancel") and call.status == 200:
                yield call.answer["id"], call.answer["state"], call.ended_ns
        for post in self.story.posts:
            for told in post.told:
                yield told.send_id, told.outcome, post.began_ns

    def _after_its_end(self) -> Iterator[str]:
        """Cancelled or expired: the node does not get it after that was told, nor before without anybody noticing."""
        tags = {send_id: tag for tag, ids in self.ids.items() for send_id in ids}
        for send_id, state, told_ns in self._ends_told():
            if state not in ("cancelled", "expired", "failed") or send_id not in tags:
                continue
            tag = tags[send_id]
            if tag in self.tried_again:
                continue
            for request in self.requests(tag):
                if request.began_ns > told_ns:
                    yield f"{tag} was told to be {state}, and goes to the node as {request.node_id}"

    def _told(self) -> Iterator[str]:
        """Each end that is none at WhatsApp is told to the event webhook, as it is."""
        told: dict[str, set[str]] = defaultdict(set)
        refused: set[str] = set()
        for post in self.story.posts:
            for one in post.told:
                if post.is_taken:
                    told[one.send_id].add(one.outcome)
                else:
                    refused.add(one.send_id)
                send = self.sends.get(one.send_id)
                if send is None or send["state"] != one.outcome:
                    yield f"{one.send_id} is told to be {one.outcome}, and is {send and send['state']}"
        masks = {
            send_id: self.pushes[tag].mask
            for tag, ids in self.ids.items()
            if tag in self.pushes
            for send_id in ids
        }
        for send in self.story.sends:
            if send["state"] == "sent" or self.is_off or masks.get(send["id"]) == "none":
                continue
            is_dead = any(f'"{send["id"]}"' in body for body in self.dead_bodies)
            is_known = send["id"] in masks  # a reply has no mask, and whose this is is not known
            if not told[send["id"]] and not is_dead and is_known:
                yield f"{send['id']} is {send['state']}, and nobody was told"
            if is_dead and not told[send["id"]] and send["id"] not in refused and send["id"] not in self.dead:
                yield f"the end of {send['id']} is a dead letter and was never refused"

    def _answers(self) -> Iterator[str]:
        """Who waited for the node's answer has been given it."""
        for call in self.story.calls:
            if call.what == "push" and call.status == 200:
                node_id = call.answer["messages"][0]["id"]
                request = self.named.get(node_id)
                if request is None or request.tag != call.pushes[0].tag or request.took_ns is None:
                    yield f"{call.pushes[0].tag} was answered {node_id}, which the node did not say"
                elif not any(send["node_id"] == node_id for send in self.story.sends):
                    yield f"{call.pushes[0].tag} was answered {node_id}, and no send has that name"

    def _keys(self) -> Iterator[str]:
        """The same key, the same answer; with another body, none."""
        by_key: dict[str, Call] = {}
        accepted = Counter[str]()
        for call in self.story.calls:
            if call.what not in ("push", "other") or not call.pushes[0].key or call.pushes[0].number >= 1000:
                continue
            key = call.pushes[0].key
            if call.what == "other" and call.status not in (409, None, 503):
                yield f"another body with {key} was answered {call.status}"
            if call.what == "push" and call.status == 202:
                first = by_key.setdefault(key, call)
                if first.answer != call.answer:
                    yield f"{key} was answered {first.ids()}, and then {call.ids()}"
        for tag, ids in self.ids.items():
            retried = sum(one in self.story.retried for one in ids)
            accepted[tag] = len(ids) - retried
            push = self.pushes.get(tag)
            is_keyed = push is not None and (
                push.key or any(push in batch.pushes and batch.key for batch in self.plan.batches)
            )
            if is_keyed and accepted[tag] > 1 and tag not in self.tried_again:
                yield f"{tag} was accepted as {ids}"

    def _states(self) -> Iterator[str]:
        """What has ended stays as it is."""
        seen: dict[str, str] = {}
        since_ns: dict[str, int] = {}
        for call in sorted(self.story.calls, key=lambda call: call.ended_ns):
            if call.what not in ("query", "cancel", "reclass") or call.status != 200:
                continue
            send_id, state = call.answer["id"], call.answer["state"]
            has_ended = seen.get(send_id) in _ENDED and since_ns[send_id] < call.began_ns
            if has_ended and state != seen[send_id]:
                yield f"{send_id} was {seen[send_id]}, and then {state}"
            if seen.get(send_id) not in _ENDED:
                seen[send_id], since_ns[send_id] = state, call.ended_ns
            if call.what == "cancel" and state != "cancelled":
                yield f"{send_id} was cancelled with 200, and is {state}"
        for send_id, state in seen.items():
            final = self.sends.get(send_id, {}).get("state")
            if state in _ENDED and state != final:
                yield f"{send_id} was {state}, and at the end {final}"

    def _times(self) -> Iterator[str]:
        """Not before its time, not after it; and the times that are told are those of what happened."""
        slack_ms = int(self.plan.commit_max_s * 1000) + 1
        lately_ms = slack_ms + int(sum(length_s for _, length_s in self.plan.stalls) * 1000)
        for tag, ids in self.ids.items():
            push = self.pushes.get(tag)
            for send in self._of(tag):
                if push is not None and send["id"] == ids[0]:
                    yield from self._wanted_times(push, send)
                if tag in self.tried_again:
                    continue
                for request in self.requests(tag):
                    late_ms = lately_ms if self._is_parked(tag) else 0  # that it goes is put on disk first
                    if send["expires_ms"] and request.wall_ms - late_ms >= send["expires_ms"]:
                        yield f"{tag} went {request.wall_ms - send['expires_ms']} ms after it had expired"
                    if send["not_before_ms"] and request.wall_max_ms < send["not_before_ms"]:
                        yield f"{tag} went {send['not_before_ms'] - request.wall_ms} ms before its time"
        if not self.plan.jumps:
            for send in self.story.sends:
                times = [send["accepted_ms"], send["not_before_ms"], send["settled_ms"]]
                given = [at_ms for at_ms in times if at_ms]
                if given != sorted(given) and send["state"] != "cancelled":
                    yield f"{send['id']}: its times are out of order: {times}"

    def _wanted_times(self, push: Push, send: dict[str, Any]) -> Iterator[str]:
        ttl_ms = push.ttl_s * 1000 or self.plan.settings.send_ttl_ms
        starts_ms = send["not_before_ms"] or send["accepted_ms"]
        if (send["expires_ms"] or 0) != (starts_ms + ttl_ms if ttl_ms else 0):
            yield f"{push.tag} expires at {send['expires_ms']}, and was to {ttl_ms} ms after {starts_ms}"
        calls = [
            call
            for call in self.story.calls
            if push in call.pushes and call.what in ("push", "batch") and call.status != 429
        ]
        if (
            not any(call.began_wall_ms <= send["accepted_ms"] <= call.ended_wall_ms for call in calls)
            and not self.plan.jumps
        ):
            yield f"{push.tag} was accepted at {send['accepted_ms']}, when nobody pushed it"
        if send["to"] != push.to:
            yield f"{push.tag} goes to {send['to']}"

    # -- in which order

    def _recipients(self) -> Iterator[str]:
        """One at a time to each recipient."""
        under_way: dict[str, Request] = {}
        for request in self.story.requests:
            who = request.to.lstrip("+")
            before = under_way.get(who)
            if before is not None and self._until_ns(before) > request.began_ns:
                yield f"two at once to {who}: {before.tag} and {request.tag}"
            under_way[who] = request

    def _order(self) -> Iterator[str]:
        """FIFO per recipient in a class, retries and restarts included.

        Of two sends that were never scheduled and have the class that they came with, the second does not begin
        before the first has ended.
        """
        moved = {call.target for call in self.story.calls if call.what == "reclass"}
        moved |= {
            send_id
            for call in self.story.calls
            if call.what == "reclass_batch"
            for push in call.pushes
            for send_id in self.ids.get(push.tag, ())
        }
        lanes: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        for tag, ids in self.ids.items():
            if tag in self.tried_again:
                continue
            if len(ids) == 1 and ids[0] in self.sends and self.requests(tag) and ids[0] not in moved:
                send = self.sends[ids[0]]
                if not send["not_before_ms"]:
                    lanes[send["class"], send["to"].lstrip("+")].append((_seq(ids[0]), tag))
        for sends in lanes.values():
            sends.sort()
            for (_, one), (_, other) in pairwise(sends):
                last, first = self.requests(one)[-1], self.requests(other)[0]
                if first.began_ns < self._until_ns(last):
                    yield f"{other} went ({first.node_id}) before {one} had ended ({last.node_id})"

    def _window(self) -> Iterator[str]:
        """At most the plan's events in any second that ends with a send; the floor lets through its own share.

        Of one that must not go twice the disk is told after its grant: what arrives meanwhile could not be foreseen.
        """
        floor = self.plan.settings.send_floor_percent
        for request in self.story.requests:
            share = -(-request.plan_tps * floor // 100) + 1 if floor else 0
            unforeseen = request.just_arrived if self._is_parked(request.tag) else 0
            if request.window - unforeseen > request.plan_tps and request.sends > share:
                yield f"{request.tag} ({request.node_id}) makes {request.window} in a second of {request.plan_tps}"

    def _is_parked(self, tag: str) -> bool:
        """Whether a send must not go twice."""
        push = self.pushes.get(tag)
        policy = push.uncertain if push is not None else ""
        return (policy or self.plan.settings.uncertain) == "park"

    # -- what else was asked

    def _masks(self) -> Iterator[str]:
        """No receipt that its sender does not want, from the moment on at which the gateway can know whose it is."""
        for post in self.story.posts:
            for word, message_id, _ in post.keys:
                request = self.named.get(message_id)
                push = self.pushes.get(request.tag) if request is not None else None
                if push is None or request is None or not request.is_known or word in _PASSES[push.mask]:
                    continue
                ended_ns = self._until_ns(request)
                was_open = request.life == post.life and request.began_ns <= post.began_ns < ended_ns
                if was_open or (post.began_ns >= ended_ns and self._is_on_disk(request)):
                    yield f"{word} of {message_id} was forwarded, and {push.tag} wants {push.mask}"

    def _replies(self) -> Iterator[str]:
        """What the backend answered to a message is sent, or is known to have ended otherwise."""
        if self.plan.settings.send_queue_max < 1000:
            return
        last: dict[Key, Post] = {}
        for post in self.story.posts:
            if post.is_taken and post.destination == "message":
                last[post.keys[0]] = post
        known = {send_id for ids in self.ids.values() for send_id in ids}
        unknown = Counter(send["to"] for send in self.story.sends if send["id"] not in known)
        for post in last.values():
            for tag, to in post.replies:
                if any(request.took_ns is not None for request in self.requests(tag)):
                    continue
                if any(f'"{tag}"' in body for body in self.dead_bodies):
                    continue
                unknown[to] -= 1
                if unknown[to] < 0:
                    yield f"the reply {tag} to {to} was never sent, and nothing is known of it"

    def _batches(self) -> Iterator[str]:
        """A batch that is cancelled counts all of its sends."""
        for call in self.story.calls:
            if call.what in ("cancel_batch", "reclass_batch") and call.status == 200:
                count = sum(number for name, number in call.answer.items() if name != "batch_id")
                if count != len({push.number for push in call.pushes}) and not any(
                    p.key for p in call.pushes
                ):
                    yield f"{call.what} of {call.target} counts {count} of {len(call.pushes)}"


def _seq(send_id: str) -> int:
    return int(send_id.rpartition("-")[2])
