"""What the peers run: each module by itself, for most of them import it from its own folder."""
