"""Importing this module imports everything in `millrace.local.preload.MODULES`; only the forkserver does."""

from millrace.local.preload import preload

MISSING = preload()
"""Modules that could not be imported."""
