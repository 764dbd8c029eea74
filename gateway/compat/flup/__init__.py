"""flup's names on this engine: `import gateway.compat.flup…` for `import flup…`; `gateway run` needs no change."""
