"""An Airflow home of its own for tests that import Airflow, set before it is imported."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="millrace-triggers-"))
