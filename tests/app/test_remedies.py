"""What is said of an application that cannot be loaded, in folders as people have them."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import pytest

from gateway.app import remedies
from gateway.app.loader import LoadError, load
from gateway.settings import Application

pytestmark = pytest.mark.usefixtures("fresh_interpreter", "no_environment")
PYTHON = f"{sys.executable} ({'.'.join(map(str, sys.version_info[:3]))})"


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell of the tests has not activated any virtual environment."""
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


def grow(top: Path, *paths: str, **texts: str) -> None:
    """Write empty Python files, and some with a text at the top; ".py" is left out of their names."""
    for name in (*paths, *texts):
        path = top / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(name, ""))


def mistake(app: str) -> str:
    with pytest.raises(LoadError) as caught:
        load(Application(name="shop", app=app))
    return str(caught.value).removeprefix("application 'shop': ")


@pytest.mark.parametrize("arguments", [0, 2, 3])
@pytest.mark.parametrize(
    "parameters",
    ["", "a", "a, b", "a, b, /", "a, b, c=1", "a=1, b=2", "*a", "a, *b", "a, b, c, *d", "a, b, *, c", "a, b, *, c=1",
     "a, b, **c", "*, a", "a, b, c, d"],
)  # fmt: skip
def test_whether_a_function_takes_arguments_is_told_as_inspect_tells_it(parameters: str, arguments: int) -> None:
    function = eval(f"lambda {parameters}: None")
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        assert "cannot be called" in remedies.not_called_like_an_application(function, arguments, "m:app")
    else:
        assert remedies.not_called_like_an_application(function, arguments, "m:app") == ""


def environment(place: Path, *modules: str) -> Path:
    """A virtual environment with modules installed."""
    packages = place / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for name in modules:
        (packages / f"{name}.py").write_text("")
    return place


# -- a module that is not there ---------------------------------------------------------------------------------------


def test_a_name_that_is_nearly_right(tmp_path: Path) -> None:
    grow(tmp_path, "shop", "pkg/front", "notes/readme", "pkg/__init__")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert mistake("shopp:app") == "there is no module 'shopp': did you mean shop?"
    assert mistake("pkgs.front:app") == "there is no module 'pkgs': did you mean pkg?"
    assert mistake("pkg.frond:app") == "there is no module 'pkg.frond': did you mean pkg.front?"


def test_a_file_in_the_place_of_a_module(tmp_path: Path) -> None:
    grow(tmp_path, "shop")
    assert mistake("shop.py:app") == (
        "there is no module 'shop.py': name the module, not the file: write shop, without .py"
    )
    assert mistake("shop.front:app") == (
        "there is no module 'shop.front': 'shop' is a module, not a package: write shop:NAME for what is in it"
    )


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("shop.py:app", "name the module, not the file: shop:app"),
        ("./shop.py", "name the module, not the file: shop:NAME"),
        ("pkg/front:app", "name the module, not the file: pkg.front:app"),
        ("pkg/deep/front.py:app", "name the module, not the file: pkg.deep.front:app"),
        ("src/front.py:app", "name the module, not the file: front:app, by --app-dir src"),
        ("shop:app", ""),
    ],
)
def test_a_file_is_named_by_its_module(tmp_path: Path, text: str, remedy: str) -> None:
    grow(tmp_path, "pkg/__init__", "pkg/deep/__init__", "src/front")
    assert remedies.file_instead_of_module(text) == remedy


def test_a_path_in_the_settings(tmp_path: Path) -> None:
    assert mistake("pkg/front.py:app") == (
        "app is 'pkg/front.py:app': provide a WSGI application as module:callable; "
        "name the module, not the file: front:app, by --app-dir pkg"
    )


def test_a_module_in_another_folder(tmp_path: Path) -> None:
    grow(tmp_path, "alpha/beta/gamma/stock", "src/backend/stock")
    environment(tmp_path / "venv", "stock")
    assert mistake("stock:app") == (
        f"there is no module 'stock': it is in {tmp_path}/src/backend: take that for app_dir, "
        f"by --app-dir {tmp_path}/src/backend"
    )


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("/no/such/folder")
    assert mistake("no_such_module:app").endswith("and that app_dir is the folder it lies in")


def test_a_module_of_the_folder_that_was_started_in(tmp_path: Path) -> None:
    name = tmp_path.name
    assert mistake(f"{name}.front:app") == (
        f"there is no module '{name}': it is app_dir itself: take the folder above it, by --app-dir {tmp_path.parent}"
    )


# -- what the application imports -------------------------------------------------------------------------------------


def test_a_module_that_lies_beside(tmp_path: Path) -> None:
    grow(tmp_path, "pkg/__init__", "pkg/models", **{"pkg/front": "import models"})
    assert mistake("pkg.front:app") == (
        "module 'pkg.front' imports 'models', which lies beside it in the package 'pkg': import it as pkg.models"
    )


def test_a_module_in_another_folder_that_is_imported(tmp_path: Path) -> None:
    grow(tmp_path, "src/models", front="import models")
    assert mistake("front:app") == (
        f"module 'front' imports 'models', which is in {tmp_path}/src: take that for app_dir, "
        f"by --app-dir {tmp_path}/src"
    )


def test_what_is_not_installed(tmp_path: Path) -> None:
    grow(tmp_path, "pkg/__init__", **{"pkg/front": "import no_such_module.web"})
    assert mistake("pkg.front:app") == (
        "module 'pkg.front' imports 'no_such_module', which is not installed for this interpreter; "
        f"install what has it by {sys.executable} -m pip"
    )


def test_a_virtual_environment_that_is_not_active(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, front="import no_such_module")
    there = environment(tmp_path / ".venv")
    how = f'set python = "{there}/bin/python" for the pool, or install gateway there'
    assert mistake("front:app") == (
        "module 'front' imports 'no_such_module', which is not installed for this interpreter; "
        f"{there} is not active: {how}"
    )
    elsewhere = environment(tmp_path / "environments" / "shop", "no_such_module")
    (elsewhere / "bin").mkdir()
    (elsewhere / "bin" / "gateway").write_text("")
    monkeypatch.setenv("VIRTUAL_ENV", str(elsewhere))
    assert mistake("front:app") == (
        f"module 'front' imports 'no_such_module', which is installed in {elsewhere}, which is not active: "
        f"start {elsewhere}/bin/gateway"
    )


def test_the_environment_that_is_used_is_not_one_that_is_not_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, front="import no_such_module")
    monkeypatch.setattr(sys, "prefix", str(environment(tmp_path / "venv")))
    assert "not installed for this interpreter; install what has it by" in mistake("front:app")


@pytest.mark.parametrize("package", [True, False])
def test_a_relative_import_in_a_module_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    grow(tmp_path, *(["pkg/__init__"] if package else []), **{"pkg/front": "from . import models"})
    monkeypatch.syspath_prepend(tmp_path / "pkg")
    assert mistake("front:app") == (
        "module 'front' imports relatively, so it is part of a package: name it pkg.front:NAME, "
        f"by --app-dir {tmp_path}"
    )


# -- what is there, but no application --------------------------------------------------------------------------------


def test_what_says_itself_how_it_is_called_is_believed(tmp_path: Path) -> None:
    grow(
        tmp_path,
        m="""
import functools
def wraps_a_view(view):
    @functools.wraps(view)
    def application(environ, start_response): ...
    return application
@wraps_a_view
def application(request): ...
def told(): ...
told.__signature__ = None
class Native(dict): ...
""",
    )
    assert load(Application(app="m:application"))
    assert load(Application(app="m:told"))
    assert load(Application(app="m:Native"))


def test_what_there_is(tmp_path: Path) -> None:
    text = "from os.path import join\nfrom pathlib import Path\nfrom time import sleep\nimport functools\n"
    text += "def view(): ...\nsite = functools.partial(print)\n"
    grow(tmp_path, "empty", m=text, other=text + "app = site\n")
    assert mistake("m:application") == "module 'm' has no 'application': it has view(), site"
    assert mistake("other:application") == "module 'other' has no 'application': did you mean 'app'?"
    assert mistake("empty:application") == "module 'empty' has no 'application': write the name of its callable"


# -- what was tried ---------------------------------------------------------------------------------------------------


def test_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, "shop")
    library = os.path.dirname(os.__file__)
    path = [str(tmp_path), "", "/no/such/folder", f"{library}.zip", library, "__editable__.shop.finder"]
    monkeypatch.setattr(sys, "path", path)
    with pytest.raises(LoadError) as caught:
        load(Application(app="shop:app"))
    assert caught.value.traceback.splitlines() == [
        "  tried     shop:app",
        f"  of        {tmp_path}/shop.py",
        f"  in        {tmp_path}, first on sys.path",
        f"  python    {PYTHON}",
        f"  sys.path  {tmp_path}",
        "            /no/such/folder (does not exist)",
    ]


def test_what_was_tried_elsewhere_than_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, "shop")
    monkeypatch.chdir("/")
    with pytest.raises(LoadError) as caught:
        load(Application(app="shop:app"))
    assert "  in        /\n" in caught.value.traceback
    assert f"  sys.path  {tmp_path}\n" in caught.value.traceback


@pytest.mark.parametrize(
    ("application", "tried"),
    [
        (Application(name="shop", script="start.py"), "to run start.py up to where it serves"),
        (Application(name="shop", moduleName="shop.web", className="Shop"), "shop.web.Shop(settings=…)"),
        (Application(name="shop", publisher=("no_such_module", "pages")), "to publish no_such_module, pages"),
    ],
)
def test_what_was_tried_of_a_script_or_class(application: Application, tried: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(application)
    assert f"  tried     {tried}\n" in caught.value.traceback
