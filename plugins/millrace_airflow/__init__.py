"""Millrace on Airflow: operators, task groups, links, lineage and the plugin. The library itself knows no Airflow."""
