"""Step of checks: do a domain's feature tables keep to what is known in time?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from millrace.cleanup import ROW, clean_schema
from millrace.features.leak_probe import Probed, probe_domain
from millrace.lake.duck import arrow, connect, quoted
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec
from millrace.validation.cleanup import run_cleanup


def check_leaks(domain: DomainSpec, *, settings: Settings) -> Probed:
    """Feature tables that know the future, look back further than declared, or do not repeat, and what was not tried.

    They are tried on rows made up from the declared columns and contracts and put through the declared clean-up. The
    rows are the same every time.
    """
    return probe_domain(domain, settings.sql_folder, clean_rows)


def clean_rows(source: SourceSpec, raw: pa.Table, where: str) -> pa.Table:
    """Raw rows after a source's clean-up with their place among them (`ROW`); those it cannot be done on are left out.

    Raises:
        SpecError: a step cannot work.
        ContractError: a Python function of the clean-up raises.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-probe-") as name:
        folder = Path(name)
        connection = connect(threads=1, external=False, folders=[folder], spill=folder / "spill")
        try:
            connection.register("raw", raw.append_column(ROW, pa.array(np.arange(raw.num_rows))))
            cleaned = run_cleanup(connection, source, where=where, folder=folder)
            schema = clean_schema(source).append(pa.field(ROW, pa.int64()))
            columns = ", ".join(quoted(column) for column in schema.names)
            query = f"SELECT {columns} FROM {quoted(cleaned.table)} ORDER BY {quoted(ROW)}"
            return arrow(connection.sql(query)).cast(schema)
        finally:
            connection.close()
