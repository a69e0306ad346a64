"""The model registry: runs, model versions and their aliases in MLflow. What is in force stands in the ledger."""
