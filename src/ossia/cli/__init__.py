"""The command line: prepare · train · publish · profile · personalize · inspect · rerank · evaluate.

Thin on purpose: a command reads its arguments, calls the library, and prints. Importing this room loads neither torch nor
polars nor onnxruntime, so that a device may use it; each command imports what it needs when it runs.
"""

from ossia.cli.app import app, main

__all__ = ["app", "main"]
