"""One operator for each step: it adds what Airflow gives (links, lineage, retries, assets) and nothing else."""
