"""From a settings file (TOML, JSON, or the JSON file of an application server with `provider`) or MODULE:CALLABLE, and
flags, to one `Settings`: every mistake is one line that names the file, the place and the remedy.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.app.bindings import Place, canonical_host, canonical_path, canonical_port, place
from gateway.declared import read_table, unknown
from gateway.net.address import InheritedAddress, TcpAddress, UnixAddress, parse_address
from gateway.settings import Application, Binding, ConfigError, Gateway, Pool, Settings

Report = Callable[[str], None]

HOW_TO_NAME = "provide a WSGI application as module:callable or a settings file"
_CALLABLE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*(\(\))?\Z")
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
_EVERYTHING = {"hostname": "*", "port": "*"}


@dataclass(frozen=True, slots=True)
class _Provider:
    """Where the application server of a JSON file with `provider` listened. Bindings name the port that clients see."""

    port: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be served, and one message for each application that had to be left out of them."""

    settings: Settings
    problems: tuple[str, ...]


def read_settings(target: str, flags: Mapping[str, object], *, inherited: str = "") -> Loaded:
    """Read what `target` names, a settings file or MODULE:CALLABLE, and put `flags` (settings by name) over it.

    `inherited` is the address of a listening socket that this process was given ("fd:0" or "systemd"): it comes before
    the `listen` of a file with one pool. Raises ConfigError, one line for each mistake that leaves nothing to serve.
    """
    if not target:
        raise ConfigError(HOW_TO_NAME)
    if target.endswith((".toml", ".json")) or (os.path.isfile(target) and not target.endswith(".py")):
        return _interpret(_parse(target), target, flags, inherited)
    if not _CALLABLE.match(target):
        raise ConfigError(_no_callable(target))
    return _interpret(_lone_application("app", target), "", flags, inherited)


def script_settings(path: str, flags: Mapping[str, object], *, inherited: str = "") -> Loaded:
    """Settings of a pool that runs the start script at `path`. Raises ConfigError."""
    return _interpret(_lone_application("script", path), "", flags, inherited)


def _lone_application(key: str, value: str) -> dict[str, Any]:
    return {"applications": [{"name": value, key: value, "bindings": [_EVERYTHING]}]}


def _no_callable(target: str) -> str:
    if target.endswith(".py"):
        module = Path(target).stem
        return (
            f"{target}: write {module}:NAME, NAME being the WSGI callable in it, or start it by: gateway run {target}"
        )
    if "/" in target:
        return f"{target}: there is no such file; {HOW_TO_NAME}"
    return f"{target!r} is neither: {HOW_TO_NAME}, as in {target.partition(':')[0] or 'shop'}:application"


def _parse(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    is_json = path.endswith(".json") or (not path.endswith(".toml") and text.lstrip().startswith("{"))
    raw = _parse_json(path, text) if is_json else _parse_toml(path, text)
    if not isinstance(raw, dict):
        raise ConfigError(f'{path}: the file holds no table; write {{"applications": […]}}')
    return raw


def _parse_json(path: str, text: str) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(
                f'{path}: "{twice}" is there twice in one table; the second would replace the first: remove one'
            )
        return table

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is no JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def _parse_toml(path: str, text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        raise ConfigError(f"{path}:{line[1] if line else text.count(chr(10)) + 1}: is no TOML: {reason}") from None


def _interpret(raw: dict[str, Any], source: str, flags: Mapping[str, object], inherited: str) -> Loaded:
    mistakes: list[str] = []
    problems: list[str] = []
    report = _reporter(mistakes, source)
    gateway, pools = _tables(raw, report)
    pools = _with_flags(pools, flags, mistakes.append)
    gateway = dataclasses.replace(gateway, **_flag_values(Gateway, flags, mistakes.append))
    pools = _with_listeners(pools, inherited if "listen" not in flags else "", report)
    applications = _applications(raw, pools, report, _reporter(problems, source))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    control = gateway.control.removeprefix("unix:") or default_control(next(iter(pools.values())).listen[0])
    gateway = dataclasses.replace(gateway, control=control)
    return Loaded(Settings(gateway=gateway, pools=pools, applications=applications, source=source), tuple(problems))


def _reporter(messages: list[str], source: str) -> Report:
    return lambda message: messages.append(f"{source}: {message}" if source else message)


def _tables(raw: dict[str, Any], report: Report) -> tuple[Gateway, dict[str, Pool]]:
    for key in raw:
        if key not in ("provider", "gateway", "pools", "applications"):
            report(unknown(key, "", ("gateway", "pools", "applications")))
    defaults: dict[str, Any] = {}
    if "provider" in raw:
        read_table(_Provider, raw["provider"], "provider", report)
        defaults = {"port_from": "host"}
    gateway = Gateway(**read_table(Gateway, raw.get("gateway", {}), "gateway", report))
    tables = raw.get("pools") or {"main": {}}
    if not isinstance(tables, dict):
        report('pools is no table; write one table for each pool, as in [pools.main] or "pools": {"main": {…}}')
        tables = {"main": {}}
    for name in tables:
        if not _POOL_NAME.match(name):
            report(f'pools."{name}": name a pool by letters, digits, "_", "-" and "." alone')
    return gateway, {
        name: Pool(**defaults | read_table(Pool, table, f"pools.{name}", report)) for name, table in tables.items()
    }


def _flag_values(declared: type, flags: Mapping[str, object], report: Report) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(declared)}
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
    return {name: dataclasses.replace(pool, env=env, **values)}


def _with_listeners(pools: dict[str, Pool], inherited: str, report: Report) -> dict[str, Pool]:
    if len(pools) == 1:
        ((name, pool),) = pools.items()
        by_name = inherited == "systemd" and any(text.startswith("systemd:") for text in pool.listen)
        listen = (inherited,) if inherited and not by_name else pool.listen or (default_listen(),)
        pools = {name: dataclasses.replace(pool, listen=listen)}
    owners: dict[str, str] = {}
    for name, pool in pools.items():
        if not pool.listen:
            report(
                f'pools.{name}.listen is missing: of several pools each names its own, as in "/run/gateway/{name}.sock"'
            )
        for address in pool.listen:
            _check_listener(name, pool, address, owners, report)
    if "systemd" in owners and any(address.startswith("systemd:") for address in owners):
        report(
            f'pools.{owners["systemd"]}.listen: "systemd" takes every socket, also those that are named; '
            "write systemd:NAME here, too"
        )
    return pools


def _check_listener(name: str, pool: Pool, text: str, owners: dict[str, str], report: Report) -> None:
    address = parse_address(text)
    if str(address) in owners:
        report(f"pools.{name}.listen: the pool {owners[str(address)]} listens on {text} already; name another address")
    owners[str(address)] = name
    if isinstance(address, TcpAddress) and not address.ip.is_loopback and not pool.listen_allowed_clients:
        report(
            f"pools.{name}.listen: {text} can be reached from other machines; name the front-ends that may connect in "
            "listen_allowed_clients, or listen on 127.0.0.1 or a Unix socket"
        )


def _applications(
    raw: dict[str, Any], pools: Mapping[str, Pool], report: Report, leave_out: Report
) -> tuple[Application, ...]:
    tables = raw.get("applications")
    if not tables:
        report('applications is missing or empty: name at least one, with name, app = "MODULE:CALLABLE" and bindings')
        return ()
    if not isinstance(tables, list):
        report('applications is no list; write [[applications]] before each one, or "applications": [{…}]')
        return ()
    if len(pools) > 1:
        named = {table.get("pool", "main") for table in tables if isinstance(table, dict)}
        for name in pools.keys() - named:
            report(f'pools.{name}: no application runs in it; write pool = "{name}" in one, or remove the pool')
    return tuple(_sound(tables, pools, leave_out))


def _sound(tables: list[Any], pools: Mapping[str, Pool], leave_out: Report) -> Iterator[Application]:
    owners: dict[tuple[str, Place], str] = {}
    for number, table in enumerate(tables):
        problems: list[str] = []
        application = _application(table, number, pools, problems.append)
        if not problems:
            _claim_bindings(application, owners, problems.append)
        for problem in problems:
            leave_out(f"{_title(table, number)}: {problem}")
        if not problems:
            yield application


def _title(table: Any, number: int) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f'application "{name}"' if name and isinstance(name, str) else f"applications[{number}]"


def _application(table: Any, number: int, pools: Mapping[str, Pool], report: Report) -> Application:
    if not isinstance(table, dict):
        report("is no table; write name, app and bindings")
        return Application()
    values = read_table(Application, {key: table[key] for key in table if key != "bindings"}, "", report)
    if not table.get("name"):
        report("name is missing: give the application a name, it stands in messages")
    _check_handed_over(values.get("settings", {}), report)
    _check_code(table, report)
    only_pool = next(iter(pools)) if len(pools) == 1 else "main"
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
    ways = [way for way in ("app", "script") if table.get(way)]
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


def _claim_bindings(application: Application, owners: dict[tuple[str, Place], str], report: Report) -> None:
    claims = [(application.pool, place(binding)) for binding in application.bindings]
    for number, claim in enumerate(claims):
        if claim in owners:
            owner = f'the application "{owners[claim]}"'
            report(f"bindings[{number}]: {claim[1]} is bound to {owner} already; change one of them")
    if not owners.keys() & set(claims):
        owners |= dict.fromkeys(claims, application.name)


def runtime_directory() -> str:
    """Where sockets are by default: /run/gateway for root, else the user's own runtime directory."""
    if os.geteuid() == 0:
        return "/run/gateway"
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"


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


def find_control(target: str, control: str) -> str:
    """The control socket of a running master: named by `control`, by the settings file `target`, by GATEWAY_CONTROL, or
    the one in the default place. Raises ConfigError when that is none or several.
    """
    named = control or (
        read_settings(target, {}).settings.gateway.control if target else os.environ.get("GATEWAY_CONTROL")
    )
    if named:
        return named.removeprefix("unix:")
    found = sorted(str(path) for path in Path(runtime_directory()).glob("gateway*-control.sock"))
    if len(found) == 1:
        return found[0]
    how = "name one with --control PATH, GATEWAY_CONTROL or the settings file that it serves"
    if found:
        raise ConfigError(f"several gateways run here ({', '.join(found)}): {how}")
    raise ConfigError(f"no gateway runs with its control socket in {runtime_directory()}: {how}")
