"""Clean-up, contract, quarantine and Data Docs: what stands between a raw row and a clean one."""

from millrace.validation.base import Finding, Validation, ValidationReport, Validator

__all__ = ["Finding", "Validation", "ValidationReport", "Validator"]
