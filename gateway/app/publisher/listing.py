"""What is published, as lines to read: each URL with its methods and what answers, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.app.publisher.tree import Call, Node, Published

_LONGEST_VALUE = 60  # characters


def lines(published: Published) -> list[str]:
    """One line for each function or value that answers, then those that were left out."""
    rows = sorted(_rows(published.root, ""))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    found = [f"{url:{widths[0]}}  {methods:{widths[1]}}  {what}" for url, methods, what in rows]
    if published.left_out:
        found += ["", "not published:"]
        found += [f"{path}  {reason}" for path, reason in sorted(published.left_out.items())]
    return found


def _rows(node: Node, path: str) -> Iterator[tuple[str, str, str]]:
    by_call: dict[int, list[str]] = {}
    for method, call in node.answers.items():
        by_call.setdefault(id(call), []).append(method)
    for methods in by_call.values():
        yield path or "/", ", ".join(methods), _what(node.answers[methods[0]])
    for name, child in node.children.items():
        yield from _rows(child, f"{path}/{name}")


def _what(call: Call) -> str:
    if not call.is_value:
        return call.name + call.plan.text
    text = repr(call.function())
    return f"{call.name} = {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"
