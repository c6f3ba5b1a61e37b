"""A number whose node is split into shards: each gateway gets a fixed part of the plan. Pure."""

from typing import Final

SHARD_COUNTS: Final = (1, 2, 4, 8, 16, 32)
"""What the node's API takes (POST /v1/account/shards)."""


def shard_part(tps: int, shards: int, index: int) -> int:
    """The part of shard `index` (0-based) in a plan of `tps`; the parts of all shards add up to exactly `tps`.

    Parts differ by one at most, the first shards having the larger ones. A plan smaller than the number of shards
    leaves some with nothing, which the settings refuse.
    """
    assert shards in SHARD_COUNTS, shards
    assert 0 <= index < shards, index
    return tps // shards + (index < tps % shards)
