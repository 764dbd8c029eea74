"""Processes: the only folder that forks, waits and signals. Imports everything below it; nothing of PyPI."""
