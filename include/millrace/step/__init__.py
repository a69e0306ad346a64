"""One function per operator: stages put together. What operators, the CLI and notebooks all call."""
