"""Sealed packages: the deployable form of a model, the same bytes in training, batch and online.

A package is a folder of files named by the sha256 of its manifest: the native model file, the feature spec, the
encoder, the signature, golden rows and the manifest with the sha256 of every other file. Nothing here imports pandas,
scikit-learn, mlflow or feast, and nothing is unpickled.
"""

from millrace.package.encoder import ColumnEncoder, Encoder
from millrace.package.feature import Column, FeatureSpec, OnDemandView, ViewFeatures
from millrace.package.golden import GoldenRows
from millrace.package.manifest import Library, Manifest, ModelFile, TrainingRecord
from millrace.package.on_demand import OnDemandFunctions, read_sources
from millrace.package.package import Package
from millrace.package.predictor import Model, Predictor
from millrace.package.seal import seal_package
from millrace.package.value import Values

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
    "OnDemandFunctions",
    "OnDemandView",
    "Package",
    "Predictor",
    "TrainingRecord",
    "Values",
    "ViewFeatures",
    "read_sources",
    "seal_package",
]
