"""The story: a year of flights through every DAG, from the first backfill to the last decision."""
