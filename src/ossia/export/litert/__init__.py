"""Bases for LiteRT: one .tflite file per base, written node by node, in which a payload replaces bytes (`template.py`)."""
