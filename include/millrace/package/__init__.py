"""Sealed packages: the deployable form of a model, the same bytes in training, batch and online.

A package is a folder of files named by the sha256 of its manifest: the native model file, the feature spec, the
encoder, the signature, golden rows and the manifest with the sha256 of every other file. Nothing here imports pandas,
scikit-learn, mlflow or feast, and nothing is unpickled.
"""

from millrace.package.encoder import ColumnEncoder, Encoder, Values
from millrace.package.feature import Column, FeatureSpec, ViewFeatures
from millrace.package.golden import GoldenRows
from millrace.package.manifest import Library, Manifest, ModelFile, TrainingRecord
from millrace.package.package import Package
from millrace.package.predictor import Model, Predictor
from millrace.package.seal import seal_package

__all__ = [
    "Column",
    "ColumnEncoder",
    "Encoder",
    "FeatureSpec",
    "GoldenRows",
    "Library",
    "Manifest",
    "Model",
    "ModelFile",
    "Package",
    "Predictor",
    "TrainingRecord",
    "Values",
    "ViewFeatures",
    "seal_package",
]
