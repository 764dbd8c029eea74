"""Start scripts as people have them, on this engine: `gateway run SCRIPT`, `gateway.run(application)` and flup's API.

It is the layer above `process`, and may import everything below `front`, of that the development server. Nothing of it
is loaded by pools: what their workers need to run a start script is in `app`.
"""
