"""From a settings file (TOML, JSON, or the JSON file of an application server with `provider`) or MODULE:CALLABLE, and
flags, to one `Settings`: every mistake is one line that names the file, the place and the remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.app.remedies import file_instead_of_module
from gateway.declared import read_table, unknown
from gateway.net.address import InheritedAddress, UnixAddress, parse_address, runtime_directory
from gateway.parsing import parse
from gateway.record import Record, fields, replace
from gateway.settings import ConfigError, Gateway, Pool, Settings
from gateway.sites import Sites
from gateway.tables import (
    Owners,
    Report,
    applications,
    check_authorizer,
    check_console,
    check_listener,
    check_numbers,
    check_total,
    pool_tables,
)

HOW_TO_NAME = "provide a WSGI application as module:callable or a settings file"
_CALLABLE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*(\(\))?\Z")
_TABLES = ("include", "gateway", "pools", "applications")
_EVERYTHING = {"hostname": "*", "port": "*"}


class _Provider(Record):
    """Where the application server of a JSON file with `provider` listened. Bindings name the port that clients see."""

    port: int = 0


class Loaded(Record):
    """Settings that can be served, and one message for each application, or included file, that had to be left out."""

    settings: Settings
    of_applications: tuple[str, ...] = ()
    of_files: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """All messages."""
        return self.of_applications + self.of_files


def read_settings(
    target: str, flags: Mapping[str, object], *, inherited: str = "", remembered: dict[str, str] | None = None
) -> Loaded:
    """Read what `target` names, a settings file or MODULE:CALLABLE, and put `flags` (settings by name) over it.

    Without a target, the flag `publisher` names modules to publish.
    `inherited` is the address of a listening socket that this process was given ("fd:0" or "systemd"): it comes before
    the `listen` of a file with one pool. `remembered` is what included files said when they were last read: it stands
    in for one that is invalid now, and what is read is put there. Raises ConfigError, one line for each mistake that
    leaves nothing to serve.
    """
    if published := flags.get("publisher"):
        if target:
            raise ConfigError(f"{target} and --publisher both say what is to be served: keep one")
        return _interpret(_published(published), "", flags, inherited)
    if not target:
        raise ConfigError(HOW_TO_NAME)
    if target.endswith((".toml", ".json")) or (os.path.isfile(target) and not target.endswith(".py")):
        return _interpret(parse(target), target, flags, inherited, {} if remembered is None else remembered)
    if not _CALLABLE.match(target):
        raise ConfigError(_no_callable(target))
    return _interpret(_lone_application("app", target), "", flags, inherited)


def script_settings(path: str, flags: Mapping[str, object], *, inherited: str = "") -> Loaded:
    """Settings of a pool that runs the start script at `path`. Raises ConfigError."""
    return _interpret(_lone_application("script", path), "", flags, inherited)


def _lone_application(key: str, value: str) -> dict[str, Any]:
    return {"applications": [{"name": value, key: value, "bindings": [_EVERYTHING]}]}


def _published(names: Any) -> dict[str, Any]:
    application = {"name": ", ".join(names), "publisher": list(names), "bindings": [_EVERYTHING]}
    return {"applications": [application]}


def _no_callable(target: str) -> str:
    if os.path.isfile(target):
        return f"{target}: {file_instead_of_module(target)}, or start it by: gateway run {target}"
    if remedy := ":" in target and file_instead_of_module(target):
        return f"{target}: {remedy}"
    if "/" in target or target.endswith(".py"):
        return f"{target}: there is no such file; {HOW_TO_NAME}"
    return f"{target!r} is neither: {HOW_TO_NAME}, as in {target.partition(':')[0] or 'shop'}:application"


def _interpret(
    raw: dict[str, Any],
    source: str,
    flags: Mapping[str, object],
    inherited: str,
    remembered: dict[str, str] | None = None,
) -> Loaded:
    mistakes: list[str] = []
    problems: list[str] = []
    report = _reporter(mistakes, source)
    gateway, pools = _tables(raw, report)
    pools = _with_flags(pools, flags, mistakes.append)
    gateway = replace(gateway, **_flag_values(Gateway, flags, mistakes.append))
    addresses: dict[str, str] = {}
    check_console(gateway, addresses, report)
    pools = _with_listeners(pools, inherited if "listen" not in flags else "", addresses, report)
    for name, pool in pools.items():
        check_numbers(name, pool, report)
        check_authorizer(name, pool, report)
    check_total(pools, gateway.process_max, report)
    owners: Owners = {}
    own = applications(raw, pools, report, _reporter(problems, source), owners)
    patterns = _include(raw, report)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    control = gateway.control.removeprefix("unix:") or default_control(next(iter(pools.values())).listen[0])
    gateway = replace(gateway, control=control)
    main = Settings(gateway=gateway, pools=pools, applications=own, source=source)
    if not patterns:
        return Loaded(main, tuple(problems))
    folder = os.path.dirname(source)
    main = replace(main, included=tuple(os.path.join(folder, pattern) for pattern in patterns))
    sites = Sites(main, addresses, owners, {} if remembered is None else remembered)
    settings = _without_idle_pool(sites.read(), raw)
    if not settings.applications and not (problems or sites.problems):
        raise ConfigError(f"{source}: neither this file nor one that it includes has an application")
    return Loaded(settings, tuple(problems), tuple(sites.problems))


def _include(raw: dict[str, Any], report: Report) -> list[str]:
    patterns = raw.get("include", [])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        report('include is no list of texts; write patterns of file names, as in include = ["sites/*.toml"]')
        return []
    return patterns


def _without_idle_pool(settings: Settings, raw: dict[str, Any]) -> Settings:
    """Without the pool that nobody has declared, where every application has another."""
    if raw.get("pools") or not settings.applications or settings.of_pool("main"):
        return settings
    return replace(settings, pools={n: pool for n, pool in settings.pools.items() if n != "main"})


def _reporter(messages: list[str], source: str) -> Report:
    return lambda message: messages.append(f"{source}: {message}" if source else message)


def _tables(raw: dict[str, Any], report: Report) -> tuple[Gateway, dict[str, Pool]]:
    for key in raw:
        if key not in ("provider", *_TABLES):
            report(unknown(key, "", _TABLES))
    defaults: dict[str, Any] = {}
    if "provider" in raw:
        read_table(_Provider, raw["provider"], "provider", report)
        defaults = {"port_from": "host"}
    gateway = Gateway(**read_table(Gateway, raw.get("gateway", {}), "gateway", report))
    pools = pool_tables(raw, report, **defaults) or {"main": Pool(**defaults)}
    return gateway, pools


def _flag_values(declared: type[Record], flags: Mapping[str, object], report: Report) -> dict[str, Any]:
    names = {field.name for field in fields(declared)}
    return read_table(declared, {name: flags[name] for name in flags if name in names}, "--", report)


def _with_flags(pools: dict[str, Pool], flags: Mapping[str, object], report: Report) -> dict[str, Pool]:
    values = _flag_values(Pool, flags, report)
    if not values:
        return pools
    if len(pools) > 1:
        flag = "--" + next(iter(values)).replace("_", "-")
        report(f"{flag}: the settings have several pools ({', '.join(pools)}); write it there, for the one meant")
        return pools
    ((name, pool),) = pools.items()
    env = pool.env | values.pop("env", {})
    return {name: replace(pool, env=env, **values)}


def _with_listeners(pools: dict[str, Pool], inherited: str, owners: dict[str, str], report: Report) -> dict[str, Pool]:
    if len(pools) == 1:
        ((name, pool),) = pools.items()
        by_name = inherited == "systemd" and any(text.startswith("systemd:") for text in pool.listen)
        listen = (inherited,) if inherited and not by_name else pool.listen or (default_listen(),)
        pools = {name: replace(pool, listen=listen)}
    for name, pool in pools.items():
        if not pool.listen:
            report(
                f'pools.{name}.listen is missing: of several pools each names its own, as in "/run/gateway/{name}.sock"'
            )
        for address in pool.listen:
            check_listener(name, pool, address, owners, report)
    if "systemd" in owners and any(address.startswith("systemd:") for address in owners):
        greedy = next(name for name, pool in pools.items() if "systemd" in pool.listen)
        report(
            f'pools.{greedy}.listen: "systemd" takes every socket, also those that are named; '
            "write systemd:NAME here, too"
        )
    return pools


def default_listen() -> str:
    """The Unix socket of a pool that names none."""
    return f"{runtime_directory()}/gateway.sock"


def default_control(listen: str) -> str:
    """The control socket that goes with a pool's first listener: /x/main.sock has /x/main-control.sock beside it.

    None ("") for a socket on fd 0, whose owner supervises this process.
    """
    address = parse_address(listen)
    if isinstance(address, UnixAddress):
        return f"{address.path.removesuffix('.sock')}-control.sock"
    if isinstance(address, InheritedAddress):
        return "" if address.fd is not None else f"{runtime_directory()}/gateway-control.sock"
    return f"{runtime_directory()}/gateway-{address.port}-control.sock"


def _control_of(target: str) -> str:
    """The control socket that a settings file names, also one with a mistake: the running master has read another."""
    try:
        return read_settings(target, {}).settings.gateway.control
    except ConfigError:
        table = parse(target).get("gateway") if os.path.isfile(target) else None
        control = table.get("control") if isinstance(table, dict) else None
        if not control or not isinstance(control, str):
            raise
        return control


def find_control(target: str, control: str) -> str:
    """The control socket of a running master: named by `control`, by the settings file `target`, by GATEWAY_CONTROL, or
    the one in the default place. Raises ConfigError when that is none or several.
    """
    named = control or (_control_of(target) if target else os.environ.get("GATEWAY_CONTROL"))
    if named:
        return named.removeprefix("unix:")
    found = sorted(str(path) for path in Path(runtime_directory()).glob("gateway*-control.sock"))
    if len(found) == 1:
        return found[0]
    how = "name one with --control PATH, GATEWAY_CONTROL or the settings file that it serves"
    if found:
        raise ConfigError(f"several gateways run here ({', '.join(found)}): {how}")
    raise ConfigError(f"no gateway runs with its control socket in {runtime_directory()}: {how}")
