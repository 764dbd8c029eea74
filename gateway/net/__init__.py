"""Sockets: the only folder that touches one. Imports `protocol`, `app`, `settings` and `log`; nothing of PyPI."""
