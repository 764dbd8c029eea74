"""Measurements of the gateway beside others on the same machine in the same run; `python -m benchmarks.engine`."""
