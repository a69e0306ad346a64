"""Millrace: the life of a model, from a partition of data to a released, watched and reversible service."""

__version__ = "0.1.0"
