"""Every public function of the library says what it takes and gives back, in types and in words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "ossia"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield the public functions, classes and methods of a module with their dotted names; not what hides in a function."""
    pending: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in parent.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    pending.append((f"{prefix}{node.name}.", node))


def decorator_names(function: Function) -> set[str]:
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}


def arguments(function: Function) -> list[ast.arg]:
    spec = function.args
    stars = [star for star in (spec.vararg, spec.kwarg) if star is not None]
    listed = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *stars]
    return [argument for argument in listed if argument.arg not in ("self", "cls") and not argument.arg.startswith("_")]


def carries_its_own_help(argument: ast.arg) -> bool:
    """A command-line option says what it is in `Annotated[…, typer.Option(help=…)]` or in an alias that ends in `Option`."""
    text = ast.unparse(argument.annotation) if argument.annotation else ""
    return "help=" in text or text.removesuffix(" | None").endswith(("Option", "Argument"))


def gives_something_back(function: Function) -> bool:
    if function.returns is None or decorator_names(function) & {"property", "cached_property", "overload"}:
        return False
    return ast.unparse(function.returns) not in ("None", "NoReturn", "Never", "'None'")


def faults_of_function(function: Function) -> Iterator[str]:
    text = ast.get_docstring(function) or ""
    own = arguments(function)
    if not text:
        yield "no docstring"
    if function.returns is None:
        yield "the result has no type"
    yield from (f"argument {argument.arg} has no type" for argument in own if argument.annotation is None)
    for argument in (argument for argument in own if not carries_its_own_help(argument)):
        if "Args:" not in text or f"{argument.arg}:" not in text.partition("Args:")[2]:
            yield f"Args does not name {argument.arg}"
    says_it_in_a_line = not own and len(text.splitlines()) == 1
    if gives_something_back(function) and not says_it_in_a_line and "Returns:" not in text and "Yields:" not in text:
        yield "no Returns or Yields"


def faults(source: str) -> list[str]:
    """List what is missing in a module's public face.

    A property may have a single line, and so may what takes nothing; a command-line option explains itself with `help=`.
    """
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["module: no docstring"]
    for name, node in public_definitions(tree):
        if isinstance(node, ast.ClassDef):
            found += [] if ast.get_docstring(node) else [f"{name}: no docstring"]
        else:
            found += [f"{name}: {fault}" for fault in faults_of_function(node)]
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_public_name_is_typed_and_explained(path: Path) -> None:
    assert faults(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "module: no docstring"),
        ('"""M."""\nclass A: ...', "A: no docstring"),
        ('"""M."""\ndef f() -> None: ...', "f: no docstring"),
        ('"""M."""\ndef f(a) -> None:\n    """F.\n\n    Args:\n        a: one."""', "f: argument a has no type"),
        ('"""M."""\ndef f(a: int) -> None:\n    """F."""', "f: Args does not name a"),
        ('"""M."""\ndef f(a: int) -> int:\n    """F."""', "f: no Returns or Yields"),
        ('"""M."""\ndef f():\n    """F."""', "f: the result has no type"),
        ('"""M."""\nclass A:\n    """A."""\n    def f(self, a: int) -> int:\n        """F."""', "A.f: no Returns or Yields"),
    ],
)
def test_the_search_finds_each_kind_of_fault(source: str, expected: str) -> None:
    assert expected in faults(source)


def test_the_search_is_content_with_a_good_module() -> None:
    good = '''"""M."""
def f(a: int, *rest: int) -> int:
    """F.

    Args:
        a: one.
        rest: more.

    Returns:
        the sum.
    """
class A:
    """A."""
    @property
    def size(self) -> int:
        """The size."""
    def copy(self) -> "A":
        """Make another one."""
    def _hidden(self, a): ...
'''
    assert faults(good) == []
