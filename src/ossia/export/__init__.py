"""Bases in other people's formats: `template` for onnxruntime, `litert` for LiteRT. Each needs an extra of its own."""
