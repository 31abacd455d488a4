"""The command that writes a base in another format, and one user's version of what it wrote."""

from pathlib import Path
from typing import Annotated

import typer

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.cli.device import decode_file
from ossia.cli.options import BaseArgument, JsonOption
from ossia.cli.output import answer
from ossia.errors import UsageError

FORMATS = ("onnx", "litert", "litert-int8")


def export(
    base: BaseArgument,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="PATH", help="The template: for onnx a folder, else a file; with --payload, a file."),
    ],
    kind: Annotated[
        str, typer.Option("--format", help="What to write: onnx for onnxruntime, litert, or litert-int8 with integer layers.")
    ] = "onnx",
    payload: Annotated[Path | None, typer.Option("--payload", help="Write what this payload replaces in a template.")] = None,
    template: Annotated[
        Path | None, typer.Option("--template", metavar="PATH", help="With --payload: what `export` wrote before.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a base as a template for a stock runtime, once; then, for each payload, what it replaces in the template.

    Example: ossia export base --format onnx --out template

    Example: ossia export base --template template --payload payload.bin --out own.safetensors

    Example: ossia export base --format litert --out template.tflite

    Example: ossia export base --template template.tflite --payload payload.bin --out own.tflite
    """
    if kind not in FORMATS:
        raise UsageError(f"format: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {kind!r}")
    if (payload is None) != (template is None):
        raise UsageError("export: expected --payload and --template together, or neither of them")
    loaded = Base.load(base)
    if payload is None or template is None:
        files = _write_template(loaded, out, kind)
    else:
        _write_own(loaded, decode_file(loaded, payload).adaptation, template, out)
        files = [out]
    sizes = {str(path): path.stat().st_size for path in files}
    answer({"files": sizes}, (f"{path}: {size:,} bytes" for path, size in sizes.items()), as_json=as_json)


def _write_template(base: Base, out: Path, kind: str) -> list[Path]:
    """Write a template, and name its files."""
    if kind == "onnx":
        from ossia.export.template import MODEL, WEIGHTS, write_template

        write_template(base, out)
        return [out / MODEL, out / WEIGHTS]
    from ossia.export.litert_template import write_template as write_file

    write_file(base, out, int8=kind == "litert-int8")
    return [out]


def _write_own(base: Base, adaptation: Adaptation, template: Path, out: Path) -> None:
    """Write one user's version; a template of LiteRT is a file, one of onnxruntime a folder."""
    if template.is_file():
        from ossia.export.litert_template import write_own as patch

        patch(base, adaptation, template, out)
        return
    from ossia.export.template import write_own

    write_own(base, adaptation, template, out)
