"""Evaluation: everybody on the same rows in time order, gates as code, and the evidence that verdicts rest on.

Import from the modules: `base` and `gate` are light; metrics bring scikit-learn in.
"""
