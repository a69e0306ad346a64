"""Training: one protocol, a trainer a library, and sealed packages that come out the same twice."""

from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.candidate import Trained, train_package
from millrace.training.job import TrainingJob, find_candidate
from millrace.training.registry import build_trainer, check_params, list_trainers
from millrace.training.run import Checkpoint, FitRun, FolderRun, LooseRun, StopFitError
from millrace.training.training_set import (
    assemble_partition,
    assemble_training_set,
    find_holdout,
    load_training_set,
)

__all__ = [
    "Checkpoint",
    "Fit",
    "FitRun",
    "FolderRun",
    "LooseRun",
    "StopFitError",
    "Trained",
    "Trainer",
    "TrainingData",
    "TrainingJob",
    "assemble_partition",
    "assemble_training_set",
    "build_trainer",
    "check_params",
    "find_candidate",
    "find_holdout",
    "list_trainers",
    "load_training_set",
    "train_package",
]
