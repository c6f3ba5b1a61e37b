"""What the disk has left: a directory that is gone has nothing, and that is told."""

from pathlib import Path

from gateway.clock import FakeClock
from gateway.store.room import LOOK_INTERVAL_NS, DiskRoom


def test_a_directory_that_is_gone_has_no_room_and_is_told(tmp_path: Path) -> None:
    clock = FakeClock()
    place = tmp_path / "store"
    place.mkdir()
    room = DiskRoom(place, clock)
    told: list[OSError] = []
    room.on_lost = told.append
    assert room.free_bytes() > 0
    place.rmdir()
    assert room.free_bytes() > 0, "not looked at again yet"
    clock.advance_ns(LOOK_INTERVAL_NS)
    assert room.free_bytes() == 0
    assert [type(error) for error in told] == [FileNotFoundError]
