"""A simulated number, node and backend, and traffic: for the demo, the tests and the benchmarks."""
