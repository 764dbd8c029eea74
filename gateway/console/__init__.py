"""The console: a web.py application that shows what the master says of itself and its pools, in a process of its own.

May import web.py, prometheus_client, net, app, protocol, settings, log and metrics; nothing imports it.
"""
