"""The tables of a settings file to pools and applications: each mistake is one message for the operator."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.app.bindings import Place, canonical_host, canonical_path, canonical_port, place
from gateway.declared import read_table
from gateway.net.address import TcpAddress, parse_address
from gateway.settings import Application, Binding, Gateway, Pool, ProcessManager

Report = Callable[[str], None]
Owners = dict[str, dict[Place, str]]  # of each pool, the application that has a binding, in words

_POOL_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_REQUIRED = {
    "hostname": 'write a host name, or "*" for any',
    "port": 'write the port that clients name, or "*" for any',
}
_CANONICAL: dict[str, Callable[[Any], object]] = {
    "hostname": canonical_host,
    "port": canonical_port,
    "path": canonical_path,
}
_AT_MOST = (
    ("min_spare_servers", "max_spare_servers"),
    ("min_spare_servers", "max_children"),
    ("start_servers", "max_children"),
)


def pool_tables(raw: dict[str, Any], report: Report, **defaults: Any) -> dict[str, Pool]:
    """The pools that a file declares."""
    tables = raw.get("pools") or {}
    if not isinstance(tables, dict):
        report('pools is no table; write one table for each pool, as in [pools.main] or "pools": {"main": {…}}')
        return {}
    for name in tables:
        if not _POOL_NAME.match(name):
            report(f'pools."{name}": name a pool by letters, digits, "_", "-" and "." alone')
    return {name: Pool(**defaults | read_table(Pool, table, f"pools.{name}", report)) for name, table in tables.items()}


def check_listener(name: str, pool: Pool, text: str, owners: dict[str, str], report: Report) -> None:
    """Check one address of a pool, which is put among `owners` (in words, by address)."""
    _claim_address(f"pools.{name}.listen", text, f"the pool {name}", owners, report)
    _check_reach(f"pools.{name}.listen", text, pool.listen_allowed_clients, report)


def check_numbers(name: str, pool: Pool, report: Report) -> None:
    """Check the numbers of workers of a pool against one another."""
    if pool.pm is not ProcessManager.DYNAMIC:
        return
    for setting, limit in _AT_MOST:
        number, most = getattr(pool, setting), getattr(pool, limit)
        if number > most:
            report(f"pools.{name}.{setting}: {number} is more than {limit}, which is {most}; raise that or lower this")


def check_authorizer(name: str, pool: Pool, report: Report) -> None:
    """Check that front-ends can ask the pool's authorizer, if it has one."""
    if pool.authorizer and pool.protocol != "fastcgi":
        report(f"pools.{name}.authorizer: front-ends ask one over FastCGI alone; set protocol to fastcgi, or remove it")


def check_total(pools: Mapping[str, Pool], process_max: int, report: Report) -> None:
    """Check that the pools may have the workers that they start with."""
    total = sum(pool.first_servers for pool in pools.values())
    if 0 < process_max < total:
        each = ", ".join(f"{name} {pool.first_servers}" for name, pool in pools.items())
        report(
            f"gateway.process_max is {process_max}, and the pools start with {total} workers ({each}); "
            "raise it, or lower their max_children or start_servers"
        )


def check_console(gateway: Gateway, owners: dict[str, str], report: Report) -> None:
    """Check the console's address in the same way; no pool may have it."""
    if gateway.status_listen:
        _claim_address("gateway.status_listen", gateway.status_listen, "the console", owners, report)
        _check_reach("gateway.status_listen", gateway.status_listen, gateway.status_listen_allowed_clients, report)


def _claim_address(place: str, text: str, owner: str, owners: dict[str, str], report: Report) -> None:
    address = str(parse_address(text))
    if address in owners:
        report(f"{place}: {owners[address]} listens on {text} already; name another address")
    owners[address] = owner


def _check_reach(place: str, text: str, allowed: tuple[str, ...], report: Report) -> None:
    address = parse_address(text)
    if isinstance(address, TcpAddress) and not address.ip.is_loopback and not allowed:
        report(
            f"{place}: {text} can be reached from other machines; name the front-ends that may connect in "
            f"{place.rpartition('.')[2]}_allowed_clients, or listen on 127.0.0.1 or a Unix socket"
        )


def applications(
    raw: dict[str, Any], pools: Mapping[str, Pool], report: Report, leave_out: Report, owners: Owners
) -> tuple[Application, ...]:
    """The applications of the main settings file; those with a mistake are told to `leave_out`.

    `owners` are given the bindings that are taken. What makes the whole file useless goes to `report`.
    """
    including = "include" in raw
    tables = raw.get("applications")
    if not tables:
        if including:
            return ()
        report('applications is missing or empty: name at least one, with name, app = "MODULE:CALLABLE" and bindings')
        return ()
    if not isinstance(tables, list):
        report('applications is no list; write [[applications]] before each one, or "applications": [{…}]')
        return ()
    if not including and len(pools) > 1:
        named = {table.get("pool", "main") for table in tables if isinstance(table, dict)}
        for name in pools.keys() - named:
            report(f'pools.{name}: no application runs in it; write pool = "{name}" in one, or remove the pool')
    return tuple(sound(tables, pools, leave_out, owners))


def sound(
    tables: list[Any],
    pools: Mapping[str, Pool],
    leave_out: Report,
    owners: Owners,
    *,
    only_pool: str = "",
    file: str = "",
) -> Iterator[Application]:
    """The applications that have no mistake. `only_pool` is the pool of those that name none, `file` where they stand,
    if that is not the main settings file."""
    only_pool = only_pool or (next(iter(pools)) if len(pools) == 1 else "main")
    for number, table in enumerate(tables):
        problems: list[str] = []
        application = _application(table, number, pools, only_pool, problems.append)
        if not problems:
            _claim_bindings(application, owners, file, problems.append)
        for problem in problems:
            leave_out(f"{_title(table, number)}: {problem}")
        if not problems:
            yield application


def _title(table: Any, number: int) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f'application "{name}"' if name and isinstance(name, str) else f"applications[{number}]"


def _application(table: Any, number: int, pools: Mapping[str, Pool], only_pool: str, report: Report) -> Application:
    if not isinstance(table, dict):
        report("is no table; write name, app and bindings")
        return Application()
    values = read_table(Application, {key: table[key] for key in table if key != "bindings"}, "", report)
    if not table.get("name"):
        report("name is missing: give the application a name, it stands in messages")
    _check_handed_over(values.get("settings", {}), report)
    _check_code(table, report)
    pool = values.setdefault("pool", only_pool)
    if pool not in pools:
        report(f'pool: there is no pool "{pool}"; write one of: {", ".join(pools)}')
    return Application(bindings=_bindings(table.get("bindings"), report), **values)


def _check_handed_over(settings: dict[str, Any], report: Report) -> None:
    """The settings of an application reach its process as JSON; TOML has dates as well."""
    try:
        json.dumps(settings)
    except TypeError as error:
        report(f"settings: {error}; write it as text")


def _check_code(table: dict[str, Any], report: Report) -> None:
    ways = [way for way in ("app", "script", "publisher") if table.get(way)]
    if table.get("moduleName") or table.get("className"):
        ways.append("moduleName")
    if len(ways) > 1:
        report(f"{ways[0]} and {ways[1]} both say where its code is: keep one")
    elif ways != ["moduleName"]:
        if not ways:
            report('moduleName is missing: write moduleName and className, or app = "MODULE:CALLABLE"')
    elif not table.get("moduleName"):
        report(f"moduleName is missing: name the module that holds the class {table['className']}")
    elif not table.get("className"):
        report(
            f'className is missing: name the class in {table["moduleName"]}, or write app = "MODULE:CALLABLE" instead'
        )


def _bindings(tables: Any, report: Report) -> tuple[Binding, ...]:
    if not tables:
        report('bindings is missing or empty: list where it answers; {"hostname": "*", "port": "*"} is everywhere')
        return ()
    if not isinstance(tables, list):
        report('bindings is no list; write [{"hostname": "shop.example.com", "port": 80}]')
        return ()
    return tuple(_binding(table, f"bindings[{number}]", report) for number, table in enumerate(tables))


def _binding(table: Any, where: str, report: Report) -> Binding:
    values = read_table(Binding, table, where, report)
    for key, remedy in _REQUIRED.items():
        if isinstance(table, dict) and table.get(key, "") == "":
            report(f"{where}.{key} is missing: {remedy}")
            values.pop(key, None)
    for key, value in values.items():
        try:
            _CANONICAL[key](value)
        except ValueError as error:
            report(f"{where}.{key}: {error}")
    return Binding(**values)


def _claim_bindings(application: Application, owners: Owners, file: str, report: Report) -> None:
    owned = owners.setdefault(application.pool, {})
    is_free = True
    for number, binding in enumerate(application.bindings):
        if owner := owned.get(place(binding)):
            report(f"bindings[{number}]: {place(binding)} is bound to {owner} already; change one of them")
            is_free = False
    if is_free:
        owner = f'the application "{application.name}"' + (f" of {file}" if file else "")
        owned.update((place(binding), owner) for binding in application.bindings)
