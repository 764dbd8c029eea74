"""How a front-end writes things down: its template, the filters through which values go, and what it has no use for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2

from gateway.front import share
from gateway.settings import ConfigError, Settings


@dataclass(frozen=True)
class Writing:
    """What distinguishes a front-end in `render`."""

    program: str  # as messages call it
    folder: str  # of its template, as `share.folder` knows it
    template: str
    filters: dict[str, Callable[..., Any]]
    lacks: Mapping[str, str] = field(default_factory=dict)  # options that it has no use for, each with the remedy
    sends: tuple[str, ...] = ()  # files that applications leave to it: x_accel, x_sendfile

    def check(self, options: Mapping[str, Any], settings: Settings) -> None:
        """Raises ConfigError when an option or a setting says what this front-end cannot be told."""
        chosen = {"part": not options.get("complete", True), **options}
        for name, remedy in self.lacks.items():
            if chosen.get(name):
                raise ConfigError(f"--{name.replace('_', '-')} means nothing to {self.program}: {remedy}")
        for name, pool in settings.pools.items():
            for key in ("x_accel", "x_sendfile"):
                if getattr(pool, key) and key not in self.sends:
                    raise ConfigError(f"pools.{name}.{key}: {self.program} sends no files for that; take it out")


def template_of(writing: Writing) -> jinja2.Template:
    """The template, with its filters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(share.folder(writing.folder)),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # configurations, not markup: every value goes through one of the filters
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= writing.filters
    return environment.get_template(writing.template)


def word(text: str, program: str, *, never: str = r'["\\$]', plain: str = r"[\w./:@%+,=~\[\]-]+") -> str:
    """`text` as one word of a configuration, in quotes where it is not `plain`.

    Raises ConfigError for control characters and for what is `never` written, as nothing escapes it.
    """
    if re.search(rf"{never}|[\x00-\x1f]", text):
        raise ConfigError(
            f"{text!r} cannot be written in a configuration of {program}: avoid quotes, $, %, braces and backslashes"
        )
    return text if re.fullmatch(plain, text) else f'"{text}"'
