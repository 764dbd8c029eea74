"""Bytes to events and back: FastCGI and SCGI, the side of the gateway and the side of a front-end, without any I/O.

May import itself only: no socket, os, time, threading, asyncio or logging.
"""
