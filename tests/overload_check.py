"""The promises of the inbound side, held against what happened in one run. Knows nothing of how it works inside."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property

from overload_plan import CLASSES, RANKS, Item, Plan
from overload_story import Key, Post, Story, key_of
from virtual_time import START_NS, WALL_START_MS

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.config import OFF
from gateway.events import Kind, ReceiptMask
from gateway.overload.ladder import HOLD_NS, THRESHOLDS, Rung, Treatment

_PASSES = {
    ReceiptMask.ALL: {"sent", "delivered", "read", "failed"},
    ReceiptMask.NONE: set[str](),
    ReceiptMask.FAILED: {"failed"},
    ReceiptMask.DELIVERED: {"failed", "delivered"},
    ReceiptMask.READ: {"failed", "delivered", "read"},
}
_KINDS = {
    "message": Kind.MESSAGE,
    "sent": Kind.SENT,
    "delivered": Kind.DELIVERED,
    "read": Kind.READ,
    "failed": Kind.FAILED,
    "warning": Kind.OTHER,
}

_KINDS_OF_RECEIPTS = {_KINDS[word] for word in RANKS}


class Checker:
    """Looks at one run."""

    def __init__(self, plan: Plan, story: Story) -> None:
        self.plan = plan
        self.story = story
        self.items = {key_of(item): item for webhook in plan.webhooks for item in webhook.items}
        settings = plan.settings
        self.is_off = settings.event_webhook_url == OFF
        self.age_ms = 0 if "age" in settings.dry_run else settings.receipts_age_max_ms
        self.gives_up = settings.backend_attempts < 100
        """Receipts that have spent their attempts expire."""
        self.highest = max((look.rung for look in story.looks), default=Rung.FORWARD)
        self.taken: dict[Key, list[Post]] = defaultdict(list)
        for post in story.posts:
            for key in post.keys if post.is_taken else ():
                self.taken[key].append(post)

    def violations(self) -> list[str]:
        """What did not hold, in words; empty when all is well."""
        checks = (
            self._lost, self._refused, self._wrongly_parked, self._unexplained, self._reasons, self._books, self._probes,
            self._posted, self._digests, self._ledger, self._ladder, self._lanes, self._dry_runs,
        )  # fmt: skip
        return self.story.problems + [found for check in checks for found in check()]

    # -- what the plan says of an item

    def policy(self, cls: str) -> Treatment:
        settings = self.plan.settings
        word = settings.receipts_group if cls.startswith("group_") else getattr(settings, f"receipts_{cls}")
        # A digest has no count of `sent`.
        return Treatment.FOLD if cls == "sent" and word == "digest" else Treatment[word.upper()]

    def is_masked(self, item: Item) -> bool:
        passes = _PASSES[self.plan.masks.get(item.message_id, ReceiptMask.ALL)]
        return item.word not in passes and item.word not in {"message", "warning"}

    def may_be(self, treatment: Treatment, cls: str) -> bool:
        """Whether a class is treated so, by policy or because the ladder has been there."""
        dry_run = self.plan.settings.dry_run
        if self.policy(cls) >= treatment and self.policy(cls) is not Treatment.DROP:
            return True
        if treatment is Treatment.DROP:
            return "shed" not in dry_run and self.highest >= Rung.SHED_GROUP_READ + CLASSES.index(cls)
        if treatment is Treatment.DIGEST:
            is_digestible = cls.startswith("group_") and self.plan.settings.receipts_digest
            return is_digestible and "digest" not in dry_run and self.highest >= Rung.DIGEST
        return self.highest >= Rung.FOLD  # where only folding runs dry, a digest folds all the same

    @cached_property
    def acked_ns(self) -> dict[Key, int]:
        """When an item was answered 200 for the first time."""
        acked: dict[Key, int] = {}
        for attempt in self.story.attempts:
            for item in attempt.webhook.items if attempt.status == 200 else ():
                key = key_of(item)
                acked[key] = min(attempt.ended_ns, acked.get(key, attempt.ended_ns))
        return acked

    @cached_property
    def offered_ns(self) -> dict[Key, int]:
        """When it was offered for the first time."""
        offered: dict[Key, int] = {}
        for attempt in self.story.attempts:
            for item in attempt.webhook.items:
                offered.setdefault(key_of(item), attempt.began_ns)
        return offered

    def higher(self, item: Item) -> list[Key]:
        """Receipts of the same message and phone that say more, were offered, and are wanted."""
        if item.word not in RANKS:
            return []
        keys = [(word, item.message_id, item.who) for word, rank in RANKS.items() if rank > RANKS[item.word]]
        # A mask is forgotten with its message.
        return [
            key
            for key in keys
            if key in self.items and (self.story.evicted or not self.is_masked(self.items[key]))
        ]

    # -- nothing is lost

    def _lost(self) -> Iterator[str]:
        """Messages, failures and what we don't know reach the backend, or are parked."""
        for key, item in self.items.items():
            is_dropped = item.word != "message" and (self.is_off or self.is_masked(item))
            if item.cls is None and not is_dropped and key not in self.taken and key not in self.story.parked:
                yield f"{key} never reached the backend"
        for post in self.story.posts:
            for key in post.keys:
                if key not in self.items:
                    yield f"{key} was never offered"
                    continue
                item = self.items[key]
                if (item.word == "message") != (post.destination == "message"):
                    yield f"{key} went to the {post.destination} webhook"
                elif item.cls is not None and self._is_against_mask(item, post):
                    yield f"{key} went against its mask"
            if self.is_off and post.destination == "event":
                yield "a request to a webhook that is off"

    def _refused(self) -> Iterator[str]:
        """A message or a failure is left with the node only where there is no room for it."""
        for attempt in self.story.attempts:
            at_s = (attempt.began_ns - START_NS) / NS_PER_S
            is_dear = any(item.cls is None for item in attempt.webhook.items)
            if attempt.status == 503 and is_dear and self.plan.disk_share(at_s) < 1.0:
                yield f"{attempt.webhook.items} was refused at {at_s:.3f} s"

    def _wrongly_parked(self) -> Iterator[str]:
        """What is parked was refused for itself, as far as it had to go: nothing is parked for a digest."""
        refused = {key for post in self.story.posts if not post.is_taken for key in post.keys}
        for keys in self.story.parked_records:
            if refused.isdisjoint(keys):
                yield f"{keys} are parked, and were never refused"

    def _is_against_mask(self, item: Item, post: Post) -> bool:
        # As above; and a failure goes with all that it came with.
        return self.is_masked(item) and not self.story.evicted and not self._is_of_failure(post)

    def _unexplained(self) -> Iterator[str]:
        """A receipt that is not forwarded where nothing is shed is folded into a higher one, or in a digest after it."""
        for key, item in self.items.items():
            cls = item.cls
            if (
                cls is None
                or self.is_off
                or self.is_masked(item)
                or key in self.taken
                or key in self.story.parked
            ):
                continue
            if (
                self.age_ms
                or self.gives_up
                or self.policy(cls) is Treatment.DROP
                or self.may_be(Treatment.DROP, cls)
            ):
                continue
            is_folded = self.may_be(Treatment.FOLD, cls) and any(
                self._goes_on(key) for key in self.higher(item)
            )
            is_digested = self.may_be(Treatment.DIGEST, cls) and self._is_in_digest(item)
            if not (is_folded or is_digested):
                yield f"{key} is not forwarded, and nothing tells of it"

    def _goes_on(self, key: Key) -> bool:
        cls = self.items[key].cls
        assert cls is not None
        return self.policy(cls) is not Treatment.DROP

    def _is_in_digest(self, item: Item) -> bool:
        since_ns = self.offered_ns[key_of(item)]
        return any(
            digest["id"] == item.message_id and post.began_ns >= since_ns
            for post in self.story.posts
            if post.is_taken
            for digest in post.digests
        )

    # -- what is counted

    def _reasons(self) -> Iterator[str]:
        """Each receipt is forwarded, parked, or counted under one reason that the plan allows."""
        for (cls, reason), count in self.story.dropped.items():
            if not self._is_reason(cls, reason):
                yield f"{count} of {cls} dropped by reason of {reason}"
        if self.plan.has_kills or self.gives_up:
            return  # what is counted in memory is counted from each start
        for cls in (*CLASSES, None):
            keys = [key for key, item in self.items.items() if item.cls == cls and item.word != "message"]
            dropped = sum(count for (of, _), count in self.story.dropped.items() if of == cls)
            gone = [key for key in keys if key in self.taken or key in self.story.parked]
            if len(keys) != len(gone) + dropped:
                yield f"{cls}: {len(keys)} came, {len(gone)} forwarded or parked, {dropped} dropped"

    def _is_reason(self, cls: str | None, reason: str) -> bool:
        if self.is_off:
            return reason == "off"
        if reason == "mask":
            return any(item.cls == cls and self.is_masked(item) for item in self.items.values())
        if cls is None:
            return False
        return {
            "policy": self.policy(cls) is Treatment.DROP,
            "overload": self.may_be(Treatment.DROP, cls),
            "folded": self.may_be(Treatment.FOLD, cls),
            "digested": self.may_be(Treatment.DIGEST, cls),
            "age": self.age_ms > 0,
        }.get(reason, False)

    def _books(self) -> Iterator[str]:
        books = self.story.books
        for kind in Kind:
            keys = [key for key, item in self.items.items() if _KINDS[item.word] is kind]
            ended = {outcome: count for (of, outcome), count in books.items() if of is kind and outcome}
            parked = sum(key in self.story.parked for key in keys)
            forwarded = sum(key in self.taken for key in keys)
            if books[kind, None] != len(keys) or sum(ended.values()) != len(keys):
                yield f"{kind.label}: {len(keys)} came, {books[kind, None]} accepted, {ended} ended"
            if ended.get("failed", 0) != parked:
                yield f"{kind.label}: {parked} parked, in the books {ended}"
            if kind not in _KINDS_OF_RECEIPTS and ended.get("expired"):
                yield f"{kind.label}: {ended['expired']} expired"
            # One that is killed between the backend's 200 and its commit repeats it, or drops it the next time.
            delivered = ended.get("delivered", 0)
            if delivered > forwarded or (not self.plan.has_kills and delivered != forwarded):
                yield f"{kind.label}: {forwarded} forwarded, in the books {ended}"
        if not self.plan.has_kills:
            yield from (f"{key} was taken twice" for key, posts in self.taken.items() if len(posts) > 1)

    # -- the order in which they give way

    def _probes(self) -> Iterator[str]:
        """Of five receipts that come at one moment, those that are shed are the first of the classes."""
        if self.is_off:
            return
        for attempt in self.story.attempts:
            if attempt.status != 200 or not attempt.webhook.is_probe:
                continue
            kept = [
                key_of(item) in self.story.stored
                for item in attempt.webhook.items
                if item.cls is not None and self.policy(item.cls) is not Treatment.DROP
            ]
            if kept != sorted(kept):
                yield f"inverted: {attempt.webhook.items[0].message_id} {kept}"

    def _posted(self) -> Iterator[str]:
        """What goes is not of a class that is shed then, nor overtaken where it is folded, nor too old."""
        for post in self.story.posts:
            if self._is_of_failure(post):
                continue  # a failure goes with all that it came with
            for key in post.keys:
                item = self.items[key]
                if item.cls is None:
                    continue
                treatment = post.treatments[item.cls]
                _, received_ms = self.story.stored[key]
                if treatment is Treatment.DROP:
                    yield f"{key} went while its class was shed"
                if treatment >= Treatment.FOLD and self._is_overtaken(item, post):
                    yield f"{key} went though a higher one had come"
                if treatment is Treatment.FORWARD and len(post.keys) > 1 and not self._came_together(post):
                    yield f"{key} went in a batch"
                if 0 < self.age_ms < post.began_ns // NS_PER_MS - self._mono_ms(received_ms):
                    yield f"{key} went too old"

    def _mono_ms(self, wall_ms: int) -> int:
        return wall_ms - self._wall_offset_ms

    _wall_offset_ms = WALL_START_MS - START_NS // NS_PER_MS
    """Of the virtual loop's wall clock to its monotonic one."""

    def _is_overtaken(self, item: Item, post: Post) -> bool:
        """By one that had come and went on itself: nothing is folded into one that was shed while more pressed."""
        return any(
            key in self.taken
            and self.acked_ns.get(key, post.began_ns) < post.began_ns
            and post.treatments[self.items[key].cls or ""] is not Treatment.DROP
            for key in self.higher(item)
        )

    def _came_together(self, post: Post) -> bool:
        return any(
            set(post.keys) <= {key_of(item) for item in webhook.items} for webhook in self.plan.webhooks
        )

    def _is_of_failure(self, post: Post) -> bool:
        return any(self.items[key].cls is None for key in post.keys if key in self.items)

    # -- counts

    def _digests(self) -> Iterator[str]:
        """A digest tells all that was acked before it, and nothing that had not come."""
        came: dict[tuple[str, str], list[int]] = defaultdict(list)
        acked: dict[tuple[str, str], list[int]] = defaultdict(list)
        for key, at_ns in self.offered_ns.items():
            came[key[0], key[1]].append(at_ns)
        for key, at_ns in self.acked_ns.items():
            acked[key[0], key[1]].append(at_ns)
        for times in (*came.values(), *acked.values()):
            times.sort()
        groups = {item.message_id: item.group or None for item in self.items.values()}
        for post in self.story.posts:
            for digest in post.digests:
                if digest["group_id"] != groups[digest["id"]]:
                    yield f"a digest of {digest['id']} names the group {digest['group_id']}"
                for word in ("delivered", "read"):
                    most = bisect_right(came[word, digest["id"]], post.began_ns)
                    least = bisect_right(acked[word, digest["id"]], post.began_ns - 1)
                    least = 0 if self.story.evicted else least
                    if not least <= digest[word] <= most:
                        yield f"a digest of {digest['id']} tells {digest[word]} {word}, true are {least} to {most}"

    def _ledger(self) -> Iterator[str]:
        told: Counter[tuple[str, str]] = Counter((word, message_id) for word, message_id, _ in self.items)
        for message_id, known in self.story.ledger.items():
            if known != self.story.recovered_ledger[message_id]:
                yield f"{message_id}: the ledger on disk is another: {self.story.recovered_ledger[message_id]}"
            words = [word for word in RANKS if told[word, message_id]]
            if known is None:
                if words and not self.story.evicted:
                    yield f"{message_id} is not in the ledger"
                continue
            counts = known.delivered.count, known.read.count, known.failed
            truth = tuple(told[word, message_id] for word in ("delivered", "read", "failed"))
            is_wrong = any(map(int.__gt__, counts, truth)) if self.story.evicted else counts != truth
            if is_wrong:
                yield f"{message_id}: the ledger has {counts} delivered, read, failed, true are {truth}"
            status = words[-1] if words else "failed"
            if not self.story.evicted and words and known.status not in {status, "failed"}:
                yield f"{message_id}: the ledger says {known.status}, true is {status}"

    # -- the ladder, and what runs dry

    def _ladder(self) -> Iterator[str]:
        rungs: dict[int, tuple[Rung, int]] = {}
        for look in self.story.looks:
            before, since_ns = rungs.get(look.life, (Rung.FORWARD, 0))
            if look.rung == before:
                continue
            if look.rung > before and look.figure < THRESHOLDS[look.rung]:
                yield f"up to {look.rung.label} at a pressure of {look.figure:.3f}"
            if look.rung < before and (look.rung != before - 1 or look.at_ns - since_ns < HOLD_NS):
                yield f"from {before.label} down to {look.rung.label} after {look.at_ns - since_ns} ns"
            rungs[look.life] = look.rung, look.at_ns

    def _lanes(self) -> Iterator[str]:
        """Messages of one contact come one after the other, in the order in which they were accepted."""
        under_way: dict[str, Post] = {}
        last_seq: dict[str, int] = {}
        for post in self.story.posts:
            if post.destination != "message":
                continue
            who = post.keys[0][2]
            before = under_way.get(who)
            if before is not None and before.ended_ns is not None and before.ended_ns > post.began_ns:
                yield f"two requests of {who} at once"
            under_way[who] = post
            seq, _ = self.story.stored[post.keys[0]]
            if post.is_taken and not self.plan.has_kills:
                if seq < last_seq.get(who, 0):
                    yield f"{post.keys[0]} came after a later one"
                last_seq[who] = seq

    def _dry_runs(self) -> Iterator[str]:
        receipts = sum(item.cls is not None for item in self.items.values())
        for name, count in self.story.would_have.items():
            if count and name not in self.plan.settings.dry_run:
                yield f"{name} does not run dry, and counts {count}"
            is_of_receipts = name in {"batch", "fold", "digest", "shed", "age"}
            if is_of_receipts and count > receipts and not self.plan.has_kills:
                yield f"{name} counts {count} of {receipts} receipts"
