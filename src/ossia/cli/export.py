"""The command that writes a base in another format, and one user's version of what it wrote."""

from pathlib import Path
from typing import Annotated

import typer

from ossia.adaptation.base import Base
from ossia.cli.device import decode_file
from ossia.cli.options import BaseArgument, JsonOption
from ossia.cli.output import answer
from ossia.errors import UsageError


def export(
    base: BaseArgument,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The template's folder; with --payload, a file.")],
    kind: Annotated[str, typer.Option("--format", help="What to write; onnx is for onnxruntime.")] = "onnx",
    payload: Annotated[Path | None, typer.Option("--payload", help="Write what this payload replaces in a template.")] = None,
    template: Annotated[
        Path | None, typer.Option("--template", metavar="FOLDER", help="With --payload: what `export` wrote before.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a base as a template for a stock runtime, once; then, for each payload, the few tensors that it replaces.

    Example: ossia export base --format onnx --out template

    Example: ossia export base --template template --payload payload.bin --out own.safetensors
    """
    from ossia.export.template import write_own, write_template

    if kind != "onnx":
        raise UsageError(f"format: expected onnx, got {kind!r}")
    if (payload is None) != (template is None):
        raise UsageError("export: expected --payload and --template together, or neither of them")
    loaded = Base.load(base)
    if payload is None or template is None:
        write_template(loaded, out)
        files = [out / name for name in ("model.onnx", "weights.safetensors")]
    else:
        write_own(loaded, decode_file(loaded, payload).adaptation, template, out)
        files = [out]
    sizes = {str(path): path.stat().st_size for path in files}
    answer({"files": sizes}, (f"{path}: {size:,} bytes" for path, size in sizes.items()), as_json=as_json)
