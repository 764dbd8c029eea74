"""Numbers of workers that contradict one another, and names as PHP-FPM writes them: what is said of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import read_settings
from gateway.settings import ConfigError, Pool, ProcessManager

APPLICATION = '[[applications]]\nname = "a"\napp = "a:a"\nbindings = [{ hostname = "*", port = "*" }]\n'
DYNAMIC = "pm = 'dynamic'\n"


def mistakes(folder: Path, pool: str, above: str = "") -> list[str]:
    """The messages about a file, without its name."""
    file = folder / "s.toml"
    file.write_text(f"{above}[pools.main]\nlisten = '/run/x/main.sock'\n{pool}\n{APPLICATION}")
    try:
        read_settings(str(file), {})
    except ConfigError as error:
        return [line.removeprefix(f"{file}: ") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("min_spare_servers = 5\nmax_children = 8", "min_spare_servers: 5 is more than max_spare_servers, which is 3"),
        ("min_spare_servers = 3\nmax_children = 2", "min_spare_servers: 3 is more than max_children, which is 2"),
        ("start_servers = 9\nmax_children = 8", "start_servers: 9 is more than max_children, which is 8"),
    ],
)
def test_numbers_of_workers_that_contradict_one_another(tmp_path: Path, pool: str, message: str) -> None:
    assert mistakes(tmp_path, DYNAMIC + pool) == [f"pools.main.{message}; raise that or lower this"]
    assert mistakes(tmp_path, pool) == []  # nothing that a static pool goes by


def test_more_workers_at_the_start_than_all_pools_may_have(tmp_path: Path) -> None:
    other = '[pools.other]\nlisten = "/run/x/other.sock"\nmax_children = 2\n'
    (tmp_path / "other.toml").write_text(other + APPLICATION.replace('"a"', '"b"', 1))
    told = (
        "gateway.process_max is {}, and the pools start with {}; raise it, or lower their max_children or start_servers"
    )
    including = 'include = ["other.toml"]\n[gateway]\nprocess_max = '
    assert mistakes(tmp_path, "", f"{including}3\n") == [told.format(3, "4 workers (main 4)")]
    for most, problems in ((6, []), (5, [told.format(5, "6 workers (main 4, other 2)")])):
        assert mistakes(tmp_path, "", f"{including}{most}\n") == []
        loaded = read_settings(str(tmp_path / "s.toml"), {})
        assert list(loaded.problems) == [f"{tmp_path}/other.toml: {problem}" for problem in problems]
        assert list(loaded.settings.pools) == (["main"] if problems else ["main", "other"])


@pytest.mark.parametrize(
    ("pool", "count"),
    [
        (Pool(max_children=7), 7),
        (Pool(pm=ProcessManager.ONDEMAND, max_children=7), 0),
        (Pool(pm=ProcessManager.DYNAMIC), 2),
        (Pool(pm=ProcessManager.DYNAMIC, max_children=1), 1),
        (Pool(pm=ProcessManager.DYNAMIC, max_children=7, start_servers=5), 5),
    ],
)
def test_workers_of_a_start(pool: Pool, count: int) -> None:
    assert pool.first_servers == count


@pytest.mark.parametrize(
    ("written", "name"), [("pm.max_children = 5", "max_children"), ("listen.mode = 1", "listen_mode")]
)
def test_a_name_as_php_fpm_writes_it(tmp_path: Path, written: str, name: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"[pools.main]\n{written}\n{APPLICATION}")
    with pytest.raises(ConfigError) as error:
        read_settings(str(file), {})
    where = written.partition(" ")[0]
    assert str(error.value) == f"{file}: pools.main.{where} is unknown; write {name}"


def test_a_variable_that_is_no_text_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path, 'env = { A = "1", B = 2 }') == ["pools.main.env: B: 2 is a whole number; write text"]
