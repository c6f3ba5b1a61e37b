"""A simulated number, node and backend, and traffic: for the demo, the tests and the benchmarks.

Read in this order. The WhatsApp end, pure: `receipts`, `number`. The node around it: `node`, with its REST
in `webapp` (`messages`, `resources`, `operations`, `settings`, `tokens`, `ratelimit`), its callbacks in
`coreapp` and `callbackqueue`, the wire shapes in `bodies`, the switch board in `faults`, and what it saw in
`journal`. The bot: `backend`, with its `ledger`. Traffic: `traffic`, `timeline`, `scenarios`, `play`. The
promises: `facts`, `checker`, `rate`, `report`. All together with a real gateway: `child`, `watch`, `run`,
`demo`. In virtual time, the budget alone against the number: `policies`, `link`, `workload`, `counter`, `pacing`,
and `mixed`, which draws a whole run from a seed.
"""
