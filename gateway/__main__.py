"""The `gateway` command. What becomes a master imports no more than a master needs: see `serving`.

Exit codes: 0; 1 refused; 75 another instance owns the socket; 100 usage or settings; 101 our bug; 111 the system.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence

from gateway.commands.outcome import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what went wrong is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--"]:
        del words[0]  # as click does, to which `serve` is not left
    if words[:1] == ["serve"]:
        return int(guarded(functools.partial(_serve, words[1:])))
    from gateway.commands.group import MODULES, run

    if words and words[0] not in MODULES and os.path.isfile(words[0]):
        words.insert(0, "run")  # `gateway SCRIPT`
    return int(guarded(functools.partial(run, words)))


def _serve(words: Sequence[str]) -> int:
    from gateway.process.spare import Spare  # first, for what it starts takes longest

    spare = Spare.of_a_start()
    try:
        from gateway.serving import serve

        return serve(words, spare)
    finally:
        if spare is not None:
            spare.close()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # `python -m` puts the working directory there; for applications, app_dir does that
    sys.exit(main())
