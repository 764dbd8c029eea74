"""Build the optional twin of gateway/protocol/records.py in C; everything else stands in pyproject.toml.

Without a C compiler the package installs and works all the same, in pure Python. GATEWAY_PURE=1 in the environment
leaves the twin out on purpose: a wheel for every platform.
"""

import os
import sysconfig

from setuptools import Extension, setup

TWIN = Extension(
    "gateway.protocol._records",
    ["gateway/protocol/_records.c"],
    depends=["gateway/protocol/_names.h"],
    optional=True,
    py_limited_api=True,  # one file for every interpreter from 3.11 on: pools may name their own
)

wanted = os.environ.get("GATEWAY_PURE", "0") in ("", "0") and not sysconfig.get_config_var("Py_GIL_DISABLED")
if wanted:
    setup(ext_modules=[TWIN], options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
