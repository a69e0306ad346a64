"""Pictures of a study: how it went, what mattered, and how trials were given up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from millrace.training.tuning.optuna_study import comparable, open_storage, quiet

_DPI = 110


def draw_study(study: str, *, storage: str, folder: Path) -> list[Path]:
    """Draw a study into PNG files: history, importance of the parameters, what was tried, and losses on the way.

    Args:
        study: its name.
        storage: SQLAlchemy URL that studies live under.
        folder: where the files go; made where it is missing.

    Returns:
        The files; those that the trials do not suffice for are left out.

    Raises:
        KeyError: there is no such study.
        StateUnavailableError: the storage does not answer.
    """
    from optuna.visualization import matplotlib as plots

    found = optuna.load_study(study_name=study, storage=open_storage(storage))
    complete = found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    known = comparable(found, {name for trial in complete for name in trial.params})
    metric = (found.metric_names or ["value"])[0]
    several = len({trial.value for trial in known.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) > 1
    drawn: dict[str, tuple[bool, Callable[[], Any]]] = {
        "history": (bool(complete), lambda: plots.plot_optimization_history(found, target_name=metric)),
        "importance": (
            several,
            lambda: plots.plot_param_importances(known, evaluator=optuna.importance.PedAnovaImportanceEvaluator()),
        ),
        "slice": (several, lambda: plots.plot_slice(known, target_name=metric)),
        "pruning": (
            any(trial.intermediate_values for trial in complete),
            lambda: plots.plot_intermediate_values(found),
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (possible, draw) in drawn.items():
        if possible:
            files.append(_save(draw, folder / f"{name}.png"))
    return files


def _save(draw: Callable[[], Any], path: Path) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with quiet(), plt.rc_context():
        axes = draw()
        figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
        figure.savefig(path, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
    return path
