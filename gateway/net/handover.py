"""How state goes over to a program that is executed in this one's place.

Whatever holds some has two methods: `hand_over(keep)` returns it as what JSON can hold, with the numbers of
descriptors, each of which it has passed to `keep`; `take_over(state)` makes the same of it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Keep = Callable[[int], int]  # lets a descriptor outlive the exec, and returns its number
State = dict[str, Any]
