"""Bases in other people's formats: `template` for onnxruntime, `litert_template` for LiteRT, each with an extra of its own."""
