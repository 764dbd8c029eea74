"""Asks whether an address is free, before a program that tells less clearly is started on it."""

from __future__ import annotations

import os
import socket


def refusal(host: str, port: int) -> str:
    """Why nothing can listen on HOST:PORT now ("Address already in use", …), or ""."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return ""
    except OSError as error:
        if (error.errno or 0) < 0:  # getaddrinfo(3)'s
            return "the host is not known"
        return os.strerror(error.errno) if error.errno else str(error)
