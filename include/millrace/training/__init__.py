"""Training: one protocol, a trainer a library, and sealed packages that come out the same twice."""

from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.candidate import Prepared, Trained, prepare_training, seal_candidate, train_package
from millrace.training.data.rows import TrainingRows, as_rows
from millrace.training.data.training_set import (
    assemble_partition,
    assemble_training_set,
    find_holdout,
    load_training_set,
    open_training_set,
)
from millrace.training.job import TrainingJob, find_candidate
from millrace.training.registry import build_trainer, check_params, list_trainers
from millrace.training.run import Checkpoint, FitRun, FolderRun, LooseRun, StopFitError

__all__ = [
    "Checkpoint",
    "Fit",
    "FitRun",
    "FolderRun",
    "LooseRun",
    "Prepared",
    "StopFitError",
    "Trained",
    "Trainer",
    "TrainingData",
    "TrainingJob",
    "TrainingRows",
    "as_rows",
    "assemble_partition",
    "assemble_training_set",
    "build_trainer",
    "check_params",
    "find_candidate",
    "find_holdout",
    "list_trainers",
    "load_training_set",
    "open_training_set",
    "prepare_training",
    "seal_candidate",
    "train_package",
]
