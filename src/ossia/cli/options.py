"""Arguments and options that several commands share, so that each has one name, one meaning and one help text."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

BaseArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="BASE", help="A published base.")]
DataArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="DATA", help="A folder that `prepare` wrote.")]
HistoryOption: TypeAlias = Annotated[
    Path, typer.Option("--history", metavar="H", help="Item ids, oldest first: a JSON array, or one id a line; `-` is stdin.")
]
RuntimeOption: TypeAlias = Annotated[
    str, typer.Option("--runtime", help="What computes: engine, numpy, numpy_int8; or default, the engine where there is one.")
]
DeviceIdOption: TypeAlias = Annotated[
    str, typer.Option("--device-id", metavar="HEX", help="32 hexadecimal digits; zeros: any device.")
]
BudgetOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="LIMITS",
        help="What the device can afford: weight_bytes=…,table_bytes=…,download_bytes=…,latency_us=…; any of them.",
    ),
]
CostTableOption: TypeAlias = Annotated[
    Path | None, typer.Option("--cost-table", metavar="F", help="From `bench engine --cost-table F`; latency_us needs it.")
]
TrustOption: TypeAlias = Annotated[
    Path | None, typer.Option("--trust", metavar="FILE", help="keys.json from `keys make`: whose signature is accepted.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else there.")]

ANY_DEVICE_HEX = "0" * 32
