"""What faults cost the clients of the gateway: one module for each kind of fault, one function for each test.

Each gives a `verdicts.Report` of what was measured and whether it is what must hold. `python -m benchmarks.faults` runs
them. They import the load, the application and its journal from `benchmarks` and the running programs from the tests.
"""
