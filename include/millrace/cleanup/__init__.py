"""Clean-up: the declared steps from raw to clean rows, checked, typed, and made into SQL.

Below the stages: validation runs the SQL, and whoever needs the names and types of clean columns asks here.
"""

from millrace.cleanup.compilation import check_cleanup, clean_schema, compile_cleanup
from millrace.cleanup.expression import isolated
from millrace.cleanup.plan import ROW, Plan, PlannedStep
from millrace.cleanup.selection import without_rows

__all__ = [
    "ROW",
    "Plan",
    "PlannedStep",
    "check_cleanup",
    "clean_schema",
    "compile_cleanup",
    "isolated",
    "without_rows",
]
