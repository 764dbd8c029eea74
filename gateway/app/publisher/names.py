"""Which names a module defines itself, told from its source: a value alone does not say where it is from."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from types import ModuleType


@dataclass(slots=True)
class Names:
    """The names that the source of a module binds at its top level."""

    defined: set[str] = field(default_factory=set)  # by def, class, assignment and the like
    imported: set[str] = field(default_factory=set)


def names_of(module: ModuleType) -> Names:
    """Read them; none for a module without source, whose `__all__` has to name what it publishes."""
    found = Names()
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return found
    _Binding(found).visit(ast.parse(source))
    return found


class _Binding(ast.NodeVisitor):
    """Collects the names bound at the top level, also below if, try, for and with; not within functions and classes."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._names.imported |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._names.defined.add(node.name)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.expr) -> None:
        """Leave out what is bound within: a lambda and a comprehension have names of their own."""

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_Lambda

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._names.defined.add(node.id)
