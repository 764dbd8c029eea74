"""Start scripts as people have them, on this engine: `gateway run SCRIPT` and `gateway.run(application)`."""
