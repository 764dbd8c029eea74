"""What a request costs the gateway and its peers, in turns behind the same front-end: `python -m benchmarks.bench`."""
