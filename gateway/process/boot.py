"""Start a zygote, or the console, in whatever interpreter runs this file: load the package `gateway` from beside it,
and nothing else of where that lies, so that a pool's own virtual environment gains none of gateway's neighbours.

Run as `python boot.py MODULE CHANNEL_FD`, as the pool's user. The syntax is kept to what an old Python 3 can parse as
well, for its refusal has to reach the operator.
"""

import importlib.util
import os
import sys


def load_package() -> None:
    """Make `import gateway` find the package that this file belongs to."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "gateway", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["gateway"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("gateway: %s is Python %d.%d; a pool needs 3.11 or newer" % ((sys.executable,) + sys.version_info[:2]))
    del sys.path[0]  # this file's own folder, put there because it was run as a script
    load_package()
    importlib.import_module(sys.argv[1]).main(int(sys.argv[2]))
