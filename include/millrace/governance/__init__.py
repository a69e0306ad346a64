"""What was decided, by whom, on what evidence: the ledger, releases, approvals, and the state they are kept in."""
