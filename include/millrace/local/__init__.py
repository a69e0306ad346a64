"""The embedded installation: PostgreSQL, Airflow, MLflow and the online service on one machine, supervised.

Nothing here imports Airflow: its components are processes that are started, watched and stopped.
"""
