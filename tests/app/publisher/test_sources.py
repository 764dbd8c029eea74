"""Which modules `publisher` names: modules, packages, files and directories, at which URLs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.app.publisher.sources import Unpublishable
from tests.app.publisher.conftest import Publish, Site

HELLO = "def hello():\n    return __name__\n"


def urls(site: Site) -> set[str]:
    found = set()
    waiting = [("", site.publisher.published.root)]
    while waiting:
        path, node = waiting.pop()
        if node.answers:
            found.add(path or "/")
        waiting += [(f"{path}/{name}", child) for name, child in node.children.items()]
    return found


PACKAGE = {
    "shop/__init__.py": (
        "from . import _tools\nfrom .cart import total\nname = 'shop'\ndef index():\n    return 'index'\n"
    ),
    "shop/cart.py": "def total():\n    return 'total'\n",
    "shop/_tools.py": HELLO,
    "shop/deep/__init__.py": "",
    "shop/deep/down.py": HELLO,
    "shop/empty.py": "",
    "shop/plain/down.py": HELLO,
    "shop/notes.txt": "",
}


def test_a_package(publish: Publish) -> None:
    site = publish(files=PACKAGE)
    assert urls(site) == {"/", "/name", "/cart/total", "/deep/down/hello"}
    assert site.text("/deep/down/hello") == "shop.deep.down"
    for path in ("/_tools/hello", "/_tools", "/total", "/empty", "/cart", "/deep", "/deep/down", "/plain/down/hello"):
        assert site.ask(path).status_code == 404


def test_a_module_of_a_package(publish: Publish) -> None:
    assert urls(publish(files=PACKAGE, publisher="shop.cart")) == {"/total"}


def test_all_of_a_package(publish: Publish) -> None:
    files = PACKAGE | {
        "shop/__init__.py": "from .cart import total\nfrom .deep import down\n"
        "def other(): ...\n__all__ = ['total', 'cart', 'deep', 'nothing']\n"
    }
    assert urls(publish(files=files)) == {"/total", "/cart/total", "/deep/down/hello"}


def test_a_function_before_the_module_of_its_name(publish: Publish) -> None:
    files = {
        "shop/__init__.py": "from .cart import cart\n__all__ = ['cart']\n",
        "shop/cart.py": "def cart():\n    return 'cart'\n",
    }
    site = publish(files=files)
    assert urls(site) == {"/cart"}
    site = publish(files={"pages/__init__.py": "from .cart import cart\n", "pages/cart.py": files["shop/cart.py"]},
                   publisher="pages")  # fmt: skip
    assert urls(site) == {"/cart/cart"}


def test_a_name_that_is_there_twice(publish: Publish) -> None:
    with pytest.raises(Unpublishable, match=r"^shop defines cart, and has a module of this name: rename one$"):
        publish(files={"shop/__init__.py": "def cart(): ...\n", "shop/cart.py": HELLO})


def test_several_modules(publish: Publish) -> None:
    site = publish(files=PACKAGE | {"blog.py": HELLO}, publisher=["shop.cart", "blog"])
    assert urls(site) == {"/cart/total", "/blog/hello"}
    site = publish(files={"index.py": "def index():\n    return 'at'\n" + HELLO}, publisher=["index", "blog"])
    assert urls(site) == {"/", "/hello", "/blog/hello"}
    with pytest.raises(Unpublishable, match="two of what publisher names are called cart: rename one"):
        publish(publisher=["shop.cart", "shop/cart.py"])


DIRECTORY = {
    "pages/index.py": "def index():\n    return 'home'\ndef hello():\n    return 'hello'\n",
    "pages/blog.py": "import shared_by_pages\ndef index():\n    return shared_by_pages.hello()\n",
    "pages/shared_by_pages.py": HELLO,
    "pages/_tools.py": HELLO,
    "pages/part/__init__.py": "",
    "pages/part/inner.py": HELLO,
    "pages/other/inner.py": HELLO,
    "pages/README.md": "",
}


@pytest.mark.parametrize("how", ["pages/", "./pages", "absolute"])
def test_a_directory(publish: Publish, tmp_path: Path, how: str) -> None:
    site = publish(files=DIRECTORY, publisher=str(tmp_path / "pages") if how == "absolute" else how)
    assert urls(site) == {"/", "/hello", "/blog", "/shared_by_pages/hello", "/part/inner/hello"}
    assert site.text("/blog/") == "shared_by_pages"
    assert site.text("/part/inner/hello") == "part.inner"


def test_a_directory_by_the_name_of_a_module(publish: Publish) -> None:
    files = {name: text.replace("import shared_by", "from . import shared_by") for name, text in DIRECTORY.items()}
    site = publish(files=files, publisher="pages")
    assert urls(site) == {"/", "/hello", "/blog", "/shared_by_pages/hello", "/part/inner/hello"}
    assert site.text("/blog/") == "pages.shared_by_pages"


def test_files_and_directories_among_several(publish: Publish) -> None:
    site = publish(files=DIRECTORY | {"far/shop.py": HELLO} | PACKAGE, publisher=["pages/", "far/shop.py"])
    assert {"/pages", "/pages/hello", "/shop/hello"} < urls(site)


def test_a_file_and_a_package_by_their_paths(publish: Publish, tmp_path: Path) -> None:
    assert urls(publish(files={"far/away.py": HELLO}, publisher="far/away.py")) == {"/hello"}
    assert str(tmp_path / "far") in sys.path
    assert urls(publish(files={"far/away.py": HELLO}, publisher="away.py")) == {"/hello"}
    site = publish(files={f"near/{name}": text for name, text in PACKAGE.items()}, publisher="near/shop/")
    assert site.text("/deep/down/hello") == "shop.deep.down"


@pytest.mark.parametrize(
    ("publisher", "message"),
    [
        ("no/such", "publisher names 'no/such': there is no such file or directory in app_dir"),
        ("nothing.py", "publisher names 'nothing.py': there is no such file or directory in app_dir"),
        ("empty/", "publisher names 'empty/': there is no Python file in it"),
        ("", "publisher names '', which is no module: write shop, shop.pages, shop.py or pages/"),
        ("a b", "publisher names 'a b', which is no module"),
        ("shop:app", "publisher names 'shop:app', which is no module"),
        ("json.py", "json has the name of another module, "),
        ("odd/", "sys has the name of another module, sys: rename it"),
    ],
)
def test_what_cannot_be_published(publish: Publish, tmp_path: Path, publisher: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unpublishable) as caught:
        publish(files={"json.py": HELLO, "odd/sys.py": HELLO}, publisher=publisher)
    assert message in str(caught.value)


def test_a_folder_whose_name_begins_like_another(publish: Publish) -> None:
    publish(files={"pages2/same.py": HELLO}, publisher="pages2/same.py")
    with pytest.raises(Unpublishable, match=r"pages/same has the name of another module, .*pages2/same.py: rename it"):
        publish(files={"pages/same.py": HELLO}, publisher="pages/same.py")
