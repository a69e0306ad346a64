"""Features computed when they are asked for: the same functions in training, batch scoring, online and in Feast.

They are loaded from text: beside the domain's YAML where a training set is built, in the package from then on. The same
columns give the same bits everywhere, because everyone calls them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.errors import FeatureError
from millrace.package.feature import FeatureSpec, OnDemandView
from millrace.package.on_demand_function import OnDemandFunction
from millrace.package.value import Values

if TYPE_CHECKING:
    import pyarrow as pa


def read_sources(views: Sequence[OnDemandView], folder: Path) -> dict[str, str]:
    """View → text of the file that its function is in.

    Args:
        views: the views.
        folder: folder of the domain's YAML.

    Raises:
        FeatureError: a file cannot be read.
    """
    found = {}
    for view in views:
        path = folder / view.function.partition(":")[0]
        try:
            found[view.view] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FeatureError(
                f"the file of on-demand view {view.view!r} cannot be read: {error}",
                where=str(path),
                remedy="correct `function`, or write the file as UTF-8",
            ) from error
    return found


class OnDemandFunctions:
    """The functions of a feature spec.

    Args:
        features: what the model sees.
        sources: view → text of its function's file.

    Raises:
        FeatureError: a text is missing, or is not what `OnDemandFunction` loads.
    """

    def __init__(self, features: FeatureSpec, sources: Mapping[str, str]) -> None:
        if absent := [view.view for view in features.on_demand if view.view not in sources]:
            raise FeatureError(
                f"no text of on-demand view {', '.join(map(repr, absent))}",
                where=f"feature service {features.service!r}",
                remedy="give the text of its function's file",
            )
        self._functions = [OnDemandFunction(view, sources[view.view]) for view in features.on_demand]

    @property
    def sources(self) -> dict[str, str]:
        """View → text of its function's file."""
        return {function.view.view: function.source for function in self._functions}

    def add(self, columns: Mapping[str, Values], rows: int) -> dict[str, Any]:
        """The columns and the features that the model takes of the functions.

        Raises:
            FeatureError: as `OnDemandFunction.compute`.
        """
        found = dict(columns)
        for function in self._functions:
            computed = function.compute(columns, rows)
            found |= {name: computed[name] for name in function.view.features}
        return found

    def add_table(self, table: pa.Table) -> pa.Table:
        """The same for an Arrow table; what is missing is null.

        Raises:
            FeatureError: as `OnDemandFunction.compute`, or a feature would hide a column of the table.
        """
        import pyarrow as pa

        types = {"number": pa.float64(), "category": pa.string()}
        columns = {name: table.column(name) for name in table.column_names}
        for function in self._functions:
            computed = function.compute(columns, table.num_rows)
            kinds = {item.name: item.kind for item in function.view.gives}
            for name in function.view.features:
                if name in table.column_names:
                    raise FeatureError(
                        f"feature {name!r} of on-demand view {function.view.view!r} is already a column",
                        where=function.view.function,
                        remedy="rename the column of the entity rows",
                    )
                values = pa.array(computed[name], types[kinds[name]], from_pandas=kinds[name] == "number")
                table = table.append_column(name, values)
        return table
