"""A backlog as plain lists: nothing is on disk or in memory, everything just waits."""

from collections import Counter

from gateway.events import InboundRecord, Kind


class BacklogModel:
    """What is fresh, delayed and taken, and in which order it must come out."""

    def __init__(self, classes: int, aside_max: int, memory_max_bytes: int) -> None:
        self.aside_max = aside_max
        self.memory_max_bytes = memory_max_bytes
        self.fresh: list[list[InboundRecord]] = [[] for _ in range(classes)]
        self.delayed: list[list[tuple[int, InboundRecord]]] = [[] for _ in range(classes)]
        """(due_ns, record)"""
        self.taken: list[InboundRecord] = []

    def push(self, record: InboundRecord) -> None:
        self.fresh[record.cls].append(record)

    def next(self, allowed: int, now_ns: int) -> InboundRecord | None:
        """The record that must be taken now, were all that waits in memory."""
        for cls in range(len(self.fresh)):
            if not allowed >> cls & 1:
                continue
            due = [item for item in self.delayed[cls] if item[0] <= now_ns]
            if due:
                return min(due, key=lambda item: (item[0], item[1].seq))[1]
            if self.fresh[cls] and not self.is_closed(cls):
                return self.fresh[cls][0]
        return None

    def next_fresh(self, allowed: int) -> InboundRecord | None:
        """The same of those that nobody has taken yet."""
        for cls, fresh in enumerate(self.fresh):
            if fresh and allowed >> cls & 1 and not self.is_closed(cls):
                return fresh[0]
        return None

    def is_closed(self, cls: int) -> bool:
        """Whether so much of a class is taken or delayed that nothing fresh of it may be."""
        aside = [*self.taken, *(record for delayed in self.delayed for _, record in delayed)]
        of_class = [record for record in aside if record.cls == cls]
        is_full = sum(len(record.body) for record in aside) >= self.memory_max_bytes
        part = self.memory_max_bytes // len(self.fresh)
        return len(of_class) >= self.aside_max or (
            is_full and sum(len(record.body) for record in of_class) > part
        )

    def take(self, record: InboundRecord) -> None:
        cls = record.cls
        self.fresh[cls] = [other for other in self.fresh[cls] if other.seq != record.seq]
        self.delayed[cls] = [item for item in self.delayed[cls] if item[1].seq != record.seq]
        self.taken.append(record)

    def defer(self, record: InboundRecord, due_ns: int) -> None:
        self.taken.remove(record)
        self.delayed[record.cls].append((due_ns, record))

    def settle(self, record: InboundRecord) -> None:
        self.taken.remove(record)

    def move(self, record: InboundRecord, moved: InboundRecord, now_ns: int) -> None:
        """A waiting record is `moved` now: it goes before what is fresh in its class, and when it was due."""
        due_ns = max([now_ns, *(due for due, other in self.delayed[record.cls] if other.seq == record.seq)])
        self.take(record)
        self.taken.remove(record)
        self.delayed[moved.cls].append((due_ns, moved))

    def records(self) -> list[InboundRecord]:
        """All that is not settled."""
        fresh = [record for of_class in self.fresh for record in of_class]
        delayed = [record for of_class in self.delayed for _, record in of_class]
        return fresh + delayed + self.taken

    def waiting(self) -> dict[Kind, int]:
        """Events not settled, by kind."""
        counts: Counter[Kind] = Counter()
        for record in self.records():
            counts.update(dict(record.kind_counts()))
        return {kind: count for kind, count in counts.items() if count}
