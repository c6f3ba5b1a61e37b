"""How many pushes a second are accepted, and what one costs.

A closed loop of 24 connections, each push a message to one of 10,000 recipients. Ours is suspended, so that what is
measured is the door: checked, classified, its wait computed, stored, 202 with its place and time. The peer puts the body
into a list of Redis that syncs its file (`appendfsync always`) and answers 200. Columns as in `ingest.py`.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import record
from ingest import one_round, summary, table
from load import MARK, Loads, post
from servers import FASTAPI_REDIS, FULL, LOAD_CORE, SERVER_CORE, SYNC, TOKEN, Contender, say_absent, split

CONNECTIONS: Final = 24
BODY: Final = (
    '{"recipient_type":"individual","to":"1555010@@@@","type":"text","text":{"body":'
    f'"Your order {MARK} is on its way and will be there on Saturday before noon."}}}}'
)
REQUEST: Final = post("/v1/messages", BODY.encode(), f"Authorization: Bearer {TOKEN}")
PACKAGES: Final = ("uvloop", "aiohttp")

Row = dict[str, Any]


def measure(options: argparse.Namespace, directory: Path) -> Row:
    """All servers, in turn."""
    names, absent = split([*SYNC, FASTAPI_REDIS])
    rounds: dict[str, list[Row]] = {name: [] for name in names}
    with Loads(directory, LOAD_CORE) as loads, ExitStack() as stack:
        servers = []
        for at, name in enumerate(names):
            server = Contender(name, directory / str(at), loads.sink_url)
            if name == FASTAPI_REDIS:
                stack.enter_context(server.start(Contender.run_fastapi_redis))
            else:
                stack.enter_context(server.start(Contender.run_gateway, SEND_QUEUE_MAX="10000000"))
                server.set_state("suspended")
            servers.append(server)
        for number in range(options.rounds + 1):
            for server in servers:
                status = 200 if server.name == FASTAPI_REDIS else 202
                row = one_round(server, loads, CONNECTIONS, options.seconds, REQUEST, status)
                if number:
                    rounds[server.name].append(row)
    return {"rows": [summary(name, CONNECTIONS, rounds[name]) for name in names], "missing": absent}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="measured (default 3), after one more")
    parser.add_argument("--seconds", type=float, default=1.2, help="of a round (default 1.2)")
    record.add_option(parser)
    options = parser.parse_args()
    result = record.about(*PACKAGES) | {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cores": {"server": SERVER_CORE, "load": LOAD_CORE},
    }
    print(record.headline(result), flush=True)
    with record.scratch() as directory:
        result |= measure(options, directory)
    rates = {row["server"]: row["per_s"] for row in result["rows"]}
    ratio = rates[FULL] / rates[FASTAPI_REDIS] if FASTAPI_REDIS in rates else None
    result["ratio"] = None if ratio is None else round(ratio, 2)
    print("\n".join([table(result["rows"]), *say_absent(result["missing"])]))
    record.write(options.json, result)


if __name__ == "__main__":
    main()
