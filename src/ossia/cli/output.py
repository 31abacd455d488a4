"""What a command says, and where: the result on stdout, everything else on stderr.

    ossia … --json > result.json        one JSON object, and nothing else, whatever happens on the way
    ossia … 2> log                      the same for people, progress apart

On a terminal long work shows a bar; elsewhere (a log, CI) each step is a line, because a bar in a file is noise.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
import typer

if TYPE_CHECKING:
    import rich.console

Step = TypeVar("Step")
WIDE = 160  # columns where nobody tells: a file, a pipe


def answer(result: Mapping[str, object], lines: Iterable["rich.console.RenderableType"], *, as_json: bool) -> None:
    """Print a command's result on stdout.

    Args:
        result: what a program wants to know; names are those of the Python fields.
        lines: the same for people: texts and tables.
        as_json: print `result` as one JSON object, and not the lines.
    """
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(result, enc_hook=str), indent=2).decode())
        return
    console = make_console(stderr=False)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=isinstance(line, str))


def say(text: str) -> None:
    """Tell the person something that is not the result, on stderr.

    Args:
        text: one or more lines.
    """
    typer.echo(text, err=True)


def watch(
    steps: Iterable[Step], total: int | None, what: str, describe: Callable[[Step], str | None], start: int = 0
) -> Iterator[Step]:
    """Pass steps on and show how far they are.

    Args:
        steps: the work; each is passed on as it comes.
        total: how many there will be at most; None: nobody knows.
        what: what is done, two or three words.
        describe: a step in words; None: it moves the bar and is worth no words.
        start: steps that were done before, by a run that is taken up again.

    Yields:
        the steps.
    """
    from rich.progress import Progress, TimeElapsedColumn

    console = make_console(stderr=True)
    if not console.is_terminal:
        for step in steps:
            if text := describe(step):
                say(f"{what}: {text}")
            yield step
        return
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(what, total=total, completed=start)
        for step in steps:
            text = describe(step)
            progress.update(task, advance=1, description=f"{what}: {text}" if text else None)
            yield step


def make_console(*, stderr: bool) -> "rich.console.Console":
    """Open a console on the stream as it is now; tests and pipes exchange it.

    Args:
        stderr: which stream.

    Returns:
        the console, wide where no terminal says how wide.
    """
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDE)


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 item`, `1,682 items`.

    Args:
        number: how many.
        noun: in the singular; the plural takes an s.

    Returns:
        the text.

    Example:
        >>> count(1, "item"), count(1682, "item")
        ('1 item', '1,682 items')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
