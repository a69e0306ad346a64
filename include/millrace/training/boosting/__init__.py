"""Gradient boosting: xgboost and lightgbm, in segments."""
