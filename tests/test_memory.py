"""Which classes of a backlog are closed, by what stands aside and what waits on disk behind others."""

import pytest

from gateway._fast.memory import BEHIND_MAX, Memory


def test_a_class_is_closed_while_as_many_stand_aside_as_may() -> None:
    memory = Memory(2, 2, 1000)
    memory.put_aside(1, 10)
    assert memory.closed == 0
    memory.put_aside(1, 10)
    assert memory.closed == 0b10
    assert memory.take_away(1, 10)
    assert memory.closed == 0


def test_bytes_close_only_the_classes_that_have_more_than_their_part() -> None:
    memory = Memory(2, 100, 1000)
    memory.put_aside(0, 500)
    memory.put_aside(1, 501)
    assert memory.closed == 0b10
    memory.put_aside(0, 1)
    assert memory.closed == 0b11
    assert memory.take_away(0, 1)
    assert memory.closed == 0b10
    assert memory.take_away(1, 501)
    assert memory.closed == 0


@pytest.mark.parametrize("goes", ["back into memory", "away"])
def test_numbers_close_a_class_too(goes: str) -> None:
    memory = Memory(2, 100, 1000)
    for _ in range(BEHIND_MAX - 1):
        memory.bytes += 1
        memory.put_aside(1, 1)
        memory.leave_on_disk(1, 1)
    assert memory.closed == 0
    memory.bytes += 1
    memory.put_aside(1, 1)
    memory.leave_on_disk(1, 1)
    assert memory.closed == 0b10
    assert (memory.bytes, memory.aside, memory.behind_on_disk) == (0, [0, 0], [0, BEHIND_MAX])
    assert memory.bring_back(1, 1) if goes == "back into memory" else memory.drop_behind(1)
    assert memory.closed == 0
