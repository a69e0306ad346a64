"""Networks, by torch."""
