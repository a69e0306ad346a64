"""A declared signature held against a use case's features and against what the model file says of itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.errors import ModelImportError
from millrace.package.description import Description, Output
from millrace.package.encoder import ColumnEncoder, Encoder
from millrace.package.feature import Column, FeatureSpec
from millrace.package.layout import Layout, ModelInput, Tensor
from millrace.spec.signature import CategoryInput, NumberInput, SignatureSpec
from millrace.spec.use_case import UseCaseSpec

Input = NumberInput | CategoryInput
_UNSEEN_TEXT = "(none of the categories of training)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What an import is made of.

    Attributes:
        layout: translates between package and model.
        encoder: of the features, with the declared categories.
        notes: what people should know of it.
    """

    layout: Layout
    encoder: Encoder
    notes: list[str]


def lay_out(
    signature: SignatureSpec,
    use_case: UseCaseSpec,
    features: FeatureSpec,
    found: Description,
    *,
    told: Sequence[Input] = (),
    texts_of: Callable[[str], list[str]],
) -> Declared:
    """Translate a signature.

    Args:
        signature: what was declared.
        use_case: what the model shall answer.
        features: of that.
        found: what the model file says.
        told: inputs that the model's own record names (MLflow's signature); what is declared goes before.
        texts_of: categories of a feature in the use case's rows, sorted.

    Raises:
        ModelImportError: names, order, types, categories, output or problem do not fit; all that is wrong is named.
    """
    where = f"signature of {signature.name!r}"
    _require_problem(signature, use_case, where)
    inputs = _fitting_inputs(signature, features, found, told, where=where)
    categories = [item for item in inputs if isinstance(item, CategoryInput)]
    texts = {_feature(item): list(item.codes) or texts_of(_feature(item)) for item in categories}
    encoder = Encoder(
        [ColumnEncoder(name=item.name, kind=item.kind, vocabulary=texts.get(item.name, [])) for item in features.model]
    )
    translated = [_model_input(item, texts.get(_feature(item), [])) for item in inputs]
    tensors = _tensors(found, len(inputs))
    if faults := _against_tensors(inputs, tensors):
        raise ModelImportError("; ".join(faults), where=f"{where}: inputs", remedy="declare what stands for them")
    output, places = _answer(signature, use_case, found, where)
    layout = Layout(
        format=found.format,
        inputs=translated,
        tensors=tensors,
        output=output.name if output else "",
        places=places,
        keys=list(found.keys) if output and output.kind == "mapping" else [],
        link=signature.output.link,
    )
    return Declared(layout=layout, encoder=encoder, notes=_notes(signature, inputs))


def _require_problem(signature: SignatureSpec, use_case: UseCaseSpec, where: str) -> None:
    if signature.problem != use_case.problem:
        raise ModelImportError(
            f"the model answers a {signature.problem} problem, {use_case.name!r} is {use_case.problem}",
            where=f"{where}: problem",
            remedy="import it into a use case of its kind",
        )


def _fitting_inputs(
    signature: SignatureSpec, features: FeatureSpec, found: Description, told: Sequence[Input], *, where: str
) -> list[Input]:
    """The inputs in the model's order, once they fit features and model."""
    inputs = _inputs(signature, found, told)
    if faults := [*_against_features(inputs, signature, features), *_against_model(inputs, found)]:
        raise ModelImportError("; ".join(faults), where=where, remedy="correct inputs and ignores of the signature")
    return _in_order(inputs, found)


def _feature(item: Input) -> str:
    return item.feature or item.name


def _inputs(signature: SignatureSpec, found: Description, told: Sequence[Input]) -> list[Input]:
    """What is declared; else what MLflow tells; else numbers by the names the file has."""
    declared = {item.name: item for item in signature.inputs}
    if told and set(declared) < {item.name for item in told}:
        return [declared.get(item.name, item) for item in told]
    if declared:
        return list(signature.inputs)
    return list(told) or [NumberInput(type="number", name=name) for name in found.names]


def _against_features(inputs: Sequence[Input], signature: SignatureSpec, features: FeatureSpec) -> list[str]:
    if not inputs:
        return ["no inputs are declared, and the model file names none"]
    known: dict[str, Column] = {column.name: column for column in features.model}
    faults = []
    for item in inputs:
        name = _feature(item)
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            faults.append(f"input {item.name!r}: {features.service!r} has no feature {name!r}{hint}")
        elif known[name].kind != item.type:
            faults.append(f"input {item.name!r} is declared a {item.type}, feature {name!r} is a {known[name].kind}")
    read = {_feature(item) for item in inputs}
    if unread := [name for name in known if name not in read | set(signature.ignores)]:
        faults.append(f"features that are neither inputs nor in ignores: {', '.join(unread)}")
    if unknown := sorted(set(signature.ignores) - set(known)):
        faults.append(f"ignores names no feature: {', '.join(unknown)}")
    return faults


def _against_model(inputs: Sequence[Input], found: Description) -> list[str]:
    names = [item.name for item in inputs]
    if found.width and len(names) != found.width:
        return [f"{len(names)} inputs are declared, the model takes {found.width}"]
    if not found.names or names == found.names:
        return []
    if sorted(names) != sorted(found.names):
        odd = [name for name in found.names if name not in names]
        return [f"the model calls its inputs otherwise: {', '.join(odd)} are not declared"]
    if found.tensors:
        return []
    place = next(i for i, (ours, own) in enumerate(zip(names, found.names, strict=True)) if ours != own)
    return [f"input {place} is {names[place]!r} in the signature and {found.names[place]!r} in the model"]


def _in_order(inputs: list[Input], found: Description) -> list[Input]:
    """Named tensors take their inputs by name."""
    if not (found.tensors and found.names):
        return inputs
    by_name = {item.name: item for item in inputs}
    return [by_name[name] for name in found.names]


def _tensors(found: Description, count: int) -> list[Tensor]:
    open_ones = [tensor for tensor in found.tensors if not tensor.width]
    if len(open_ones) > 1:
        raise ModelImportError(
            f"the widths of {len(open_ones)} input tensors are open, so that inputs cannot be told apart",
            where="model file",
            remedy="export it with fixed widths, or one input a column",
        )
    rest = count - sum(tensor.width for tensor in found.tensors)
    return [Tensor(name=item.name, kind=item.kind, width=item.width or rest, flat=item.flat) for item in found.tensors]


def _against_tensors(inputs: Sequence[Input], tensors: Sequence[Tensor]) -> list[str]:
    faults, waiting = [], list(inputs)
    for tensor in tensors:
        taken, waiting = waiting[: tensor.width], waiting[tensor.width :]
        for item in taken:
            text = isinstance(item, CategoryInput) and item.text
            if text != (tensor.kind == "object"):
                faults.append(f"input {item.name!r}: tensor {tensor.name!r} takes {'texts' if not text else 'numbers'}")
            elif tensor.kind.startswith("int"):
                keys = ("missing", "unseen") if isinstance(item, CategoryInput) else ("missing",)
                lacking = [key for key in keys if getattr(item, key) is None]
                if lacking:
                    faults.append(f"input {item.name!r} is a whole number, which cannot be NaN: {lacking} is missing")
    return faults


def _answer(
    signature: SignatureSpec, use_case: UseCaseSpec, found: Description, where: str
) -> tuple[Output | None, list[int]]:
    """The output that is read, and which of its columns are the use case's classes."""
    output = _output(signature, use_case, found, where) if found.outputs else None
    columns = (output.width if output else found.columns) or len(found.classes)
    if use_case.problem == "regression":
        if columns > 1 or (output and output.kind != "float"):
            raise ModelImportError(
                f"the model answers with {columns or 'several'} columns, a regression has one value",
                where=f"{where}: output",
                remedy="name the output with the value",
            )
        return output, []
    wanted = list(use_case.classes) or ["0", "1"]
    if columns == 1:
        if use_case.problem == "multiclass":
            raise ModelImportError(
                "the model answers with one column", where=f"{where}: output", remedy="name the output of probabilities"
            )
        return output, []
    own = list(signature.output.classes) or list(found.classes) or wanted
    if columns and columns != len(own):
        raise ModelImportError(
            f"the model answers with {columns} columns, for the {len(own)} classes {', '.join(own)}",
            where=f"{where}: output",
            remedy="name the output of probabilities, or export the model with one column a class",
        )
    if sorted(own) != sorted(wanted):
        raise ModelImportError(
            f"the columns of the answer are {', '.join(own)}, the use case tells {', '.join(wanted)} apart",
            where=f"{where}: output.classes",
            remedy="list the use case's classes in the order of the model's columns",
        )
    return output, [own.index(name) for name in (wanted if use_case.problem == "multiclass" else wanted[1:])]


def _output(signature: SignatureSpec, use_case: UseCaseSpec, found: Description, where: str) -> Output:
    named = signature.output.name
    usable = [item for item in found.outputs if item.kind != "label"]
    chosen = [item for item in found.outputs if item.name == named] if named else usable
    if len(chosen) == 1 and (chosen[0].kind != "label" or use_case.problem == "regression"):
        return chosen[0]
    known = ", ".join(f"{item.name} ({item.kind})" for item in found.outputs)
    if not named and not usable:
        what = "the model answers with labels and no probabilities"
    elif named:
        what = f"output {named!r} is none that is read" if chosen else f"the model has no output {named!r}"
    else:
        what = "the model has several outputs"
    raise ModelImportError(
        f"{what}; it has {known}", where=f"{where}: output.name", remedy="name the output of probabilities or values"
    )


def _model_input(item: Input, texts: Sequence[str]) -> ModelInput:
    feature = _feature(item)
    if isinstance(item, NumberInput):
        return ModelInput(name=item.name, feature=feature, missing=item.missing)
    unseen: Any = item.unseen
    if item.text:
        beyond = [_UNSEEN_TEXT if unseen is None else str(unseen), str(item.missing or "")]
        return ModelInput(name=item.name, feature=feature, texts=[*texts, *beyond])
    missing: Any = item.missing
    return ModelInput(name=item.name, feature=feature, codes=[*(item.codes[text] for text in texts), unseen, missing])


def _notes(signature: SignatureSpec, inputs: Sequence[Input]) -> list[str]:
    notes = []
    if signature.ignores:
        notes.append(f"It does not read {', '.join(signature.ignores)}.")
    if guessed := [item.name for item in inputs if isinstance(item, CategoryInput) and item.text and not item.codes]:
        notes.append(f"Categories of {', '.join(guessed)} are those of the rows before the holdout.")
    if signature.trained_through is None:
        notes.append("Nobody says which rows it learned from.")
    if signature.examples is None:
        notes.append("No examples prove that inputs and codes are right.")
    return notes
