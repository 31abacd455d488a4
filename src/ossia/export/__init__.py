"""Bases in other people's formats: a template that a stock runtime opens, and what one user's version replaces in it."""

from ossia.export.template import own_tensors, write_own, write_template

__all__ = ["own_tensors", "write_own", "write_template"]
