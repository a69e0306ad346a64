"""Estimators of scikit-learn's."""
