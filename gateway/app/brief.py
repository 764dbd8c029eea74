"""What the master is told of settings: of the applications, and of their bindings, of which there may be many
thousands, no more than it has to know itself.
"""

from __future__ import annotations

import json

from gateway.app.bindings import elsewhere, hosts_of_pools, labels
from gateway.record import replace
from gateway.settings import Brief, Settings, Work, to_json


def brief(settings: Settings) -> Brief:
    """Make a master's settings of whole ones."""
    hosts = hosts_of_pools(settings) if len(settings.pools) > 1 else {}
    works = {}
    for name in settings.pools:
        applications = settings.of_pool(name)
        works[name] = Work(
            applications=json.dumps(to_json(applications)),
            elsewhere=json.dumps(elsewhere(hosts, name)),
            count=len(applications),
            hosts=tuple(labels(applications)),
        )
    return Brief(settings=replace(settings, applications=()), works=works)
