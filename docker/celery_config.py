"""Celery for Airflow: heavy imports are made once, before the pool forks, so that no task pays for them."""

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

CELERY_CONFIG = {**DEFAULT_CELERY_CONFIG, "imports": ("great_expectations", "feast", "evidently", "mlflow")}
