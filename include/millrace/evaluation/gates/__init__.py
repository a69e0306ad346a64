"""One gate a file. The file's name is the kind a policy names; `GATE` in it is the class.

A gate is a subclass of `millrace.evaluation.gate.Gate`: fields are its arguments, `answer` judges a bundle.
"""
