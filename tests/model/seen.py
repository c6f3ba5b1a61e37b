"""The seen-set as a dict, which remembers the order of insertion."""


class SeenModel:
    """The oldest key is the first one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: dict[int, None] = {}

    def add(self, fingerprint: int) -> bool:
        if fingerprint in self.held:
            return False
        if len(self.held) == self.capacity:
            del self.held[next(iter(self.held))]
        self.held[fingerprint] = None
        return True

    def add_packed(self, data: bytes) -> int:
        return sum(self.add(int.from_bytes(data[at : at + 8], "little")) for at in range(0, len(data), 8))

    def discard(self, fingerprint: int) -> bool:
        if fingerprint not in self.held:
            return False
        del self.held[fingerprint]
        return True

    def __contains__(self, fingerprint: int) -> bool:
        return fingerprint in self.held

    def __len__(self) -> int:
        return len(self.held)
