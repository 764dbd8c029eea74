"""Events to applications: finds the application of a request, builds its environ, runs it.

Owns the rules for hosts, paths, parameters, bodies and answers, and PEP 3333's server side. May import
`gateway.protocol` and `gateway.settings`; no sockets, processes or third parties: a driver hands in an `exchange`.
"""
