"""The story as bare library calls in one process: no Airflow, no Millrace, the same values from the same YAML and SQL.

What a good engineer would write who needs the answers once: each source is read once, tables stay in memory from stage
to stage, features are joined once a month. Everything that the story leaves behind for people is left behind here too:
Delta tables, Data Docs, MLflow runs and versions, drift reports, a log of the decisions.
"""
