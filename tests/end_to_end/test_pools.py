"""Several pools under one master: what happens to one is nothing to the others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from gateway.net import control
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, USER, Settings, serving
from tests.waiting import wait_until


def two_pools(place: Path) -> Settings:
    """Pools "main" and "shop", each with code of its own."""
    for name in ("main", "shop"):
        (place / name).mkdir()
        shutil.copy(HERE / "everything.py", place / name / "everything.py")
    pool = {"app_dir": str(place / "main"), "max_children": 2}
    settings = Settings(place, pool)
    settings.applications.append({"name": "shop", "app": "everything:application", "pool": "shop"})
    shop = {"listen": str(place / "shop.sock"), "app_dir": str(place / "shop"), "max_children": 2, "user": USER}
    settings.more["pools"] = {"shop": shop | {"env": {"JOURNAL": f"{place}/journal", "GATES": f"{place}/gates"}}}
    settings.write()
    return settings


def pools(settings: Settings) -> dict[str, dict[str, Any]]:
    return {pool["name"]: pool for pool in control.call(str(settings.control), {"command": "status"}, 5)["pools"]}


def workers(settings: Settings, pool: str) -> set[int]:
    return {worker["pid"] for worker in pools(settings)[pool]["workers"]}


def reload(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*GATEWAY, "reload", str(settings.file), *options]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def test_one_pool_alone_is_reloaded(place: Path) -> None:
    settings = two_pools(place)
    with serving(settings):
        main, shop = workers(settings, "main"), workers(settings, "shop")
        assert reload(settings, "--pool", "shop").returncode == 0
        assert workers(settings, "main") == main
        assert not {w["pid"] for w in pools(settings)["shop"]["workers"] if w["state"] == "idle"} & shop
        unknown = reload(settings, "--pool", "shopp")
        assert unknown.returncode == 1
        assert "no pool is called 'shopp'; there are: main, shop" in unknown.stderr


def test_broken_code_of_one_pool_leaves_the_other_reloaded(place: Path) -> None:
    settings = two_pools(place)
    with serving(settings):
        main, shop = workers(settings, "main"), workers(settings, "shop")
        (place / "shop" / "everything.py").write_text("raise RuntimeError('broken on purpose')\n")
        refused = reload(settings)
        assert refused.returncode == 1
        assert "pool shop: " in refused.stderr
        assert "RuntimeError: broken on purpose" in refused.stderr
        assert workers(settings, "shop") == shop
        assert not {w["pid"] for w in pools(settings)["main"]["workers"] if w["state"] == "idle"} & main


def test_the_wrong_pool_answers_503_and_its_log_names_the_right_one(place: Path) -> None:
    settings = two_pools(place)
    for application, host in zip(settings.applications, ("main.example", "shop.example"), strict=True):
        application["bindings"] = [{"hostname": host, "port": "*"}]
    settings.write()
    said = "answered 503 Service unavailable: nothing is bound to"

    def status(pool: str, host: str) -> str:
        socket = settings.socket if pool == "main" else place / "shop.sock"
        command = [*GATEWAY, "request", socket, f"http://{host}/hello"]
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30).stdout.split()[0]

    with serving(settings) as master:
        assert status("main", "main.example") == status("shop", "shop.example") == "200"
        assert status("main", "shop.example") == status("shop", "main.example") == status("main", "x.example") == "503"
        for there, host in (("shop", "shop.example"), ("main", "main.example")):
            wait_until(
                lambda there=there, host=host: f"{said} {host}:80 in this pool, but in the pool {there}" in master.said
            )
        wait_until(lambda: f"{said} x.example:80\n" in master.said)
        settings.applications[1]["bindings"].append({"hostname": "*.shop.example", "port": 80})
        settings.write()
        assert reload(settings).returncode == 0
        assert status("main", "a.shop.example") == "503"
        wait_until(lambda: f"{said} a.shop.example:80 in this pool, but in the pool shop" in master.said)
