"""The app: the list of commands, and what the shell is told when one of them fails.

    0     done
    1     the machine refused (disk, permission), or an ossia error without a class of its own
    2     usage · 3  data · 4  artifact · 5  payload · 6  budget        (`ossia.errors`)
    130   interrupted

A message without a traceback means: something given to us is wrong, and the message says what. A traceback means a fault
of ours.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ossia.cli.bench import bench
from ossia.cli.bench_engine import engine
from ossia.cli.cloud import personalize
from ossia.cli.describe import describe
from ossia.cli.device import inspect, profile, rerank
from ossia.cli.export import export
from ossia.cli.judge import evaluate
from ossia.cli.keys import keys
from ossia.cli.learn import publish, train
from ossia.cli.logs import prepare
from ossia.cli.output import say
from ossia.cli.serve import serve
from ossia.cli.study import study
from ossia.errors import OssiaError

COMMANDS = (prepare, describe, train, publish, profile, personalize, inspect, rerank, export, evaluate, serve)
EXTRAS = {
    "torch": "train",
    "polars": "train",
    "onnx": "export",
    "ai_edge_litert": "litert",
    "onnxscript": "train",
    "matplotlib": "train",
    "onnxruntime": "serve",
    "apsw": "serve",
    "uvicorn": "serve",
    "starlette": "serve",
    "prometheus_client": "serve",
}

app = typer.Typer(
    name="ossia",
    help="From a real log to a personal ranking on a device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)
bench.command("engine")(engine)
app.add_typer(bench, name="bench")
app.add_typer(keys, name="keys")
app.add_typer(study, name="study")


@app.callback(invoke_without_command=True)
def ossia(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """From a real log to a personal ranking on a device."""
    if version:
        from ossia import __version__

        typer.echo(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: without the program's name; None: those of the process.

    Raises:
        SystemExit: always.
    """
    # Torch's threads wait for each other spinning; beside one busy neighbor on two cores that made an epoch forty times
    # slower. It is read when torch is loaded, by the command that needs it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(list(arguments) if arguments is not None else None)
    except OssiaError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        _fail(f"expected {error.name}, which is not installed here; it comes with ossia[{EXTRAS[error.name]}]", 2)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1)


def _fail(message: str, code: int) -> None:
    """Say what went wrong, and leave."""
    say(f"ossia: {message}")
    sys.exit(code)
