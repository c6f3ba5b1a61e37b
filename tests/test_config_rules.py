"""What must hold between settings of the number."""

import pytest

from gateway.config import ConfigError, load


def test_shards_other_than_the_nodes_are_refused_with_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"GATEWAY_SHARDS": "3"})
    assert caught.value.problems == ["GATEWAY_SHARDS='3': expected 1, 2, 4, 8, 16 or 32 (default 1)"]


@pytest.mark.parametrize(("index", "is_there"), [("0", True), ("3", True), ("4", False)])
def test_a_shard_that_is_not_there_is_refused(index: str, is_there: bool) -> None:
    variables = {"GATEWAY_SHARDS": "4", "GATEWAY_SHARD_INDEX": index}
    if is_there:
        assert load(variables).shard_index == int(index)
    else:
        with pytest.raises(ConfigError, match="there is no such shard of GATEWAY_SHARDS=4; expected 0 to 3"):
            load(variables)


def test_a_plan_smaller_than_the_shards_is_refused() -> None:
    with pytest.raises(ConfigError, match="less than one event a second for each of GATEWAY_SHARDS=16"):
        load({"GATEWAY_SHARDS": "16", "GATEWAY_TPS": "15"})
