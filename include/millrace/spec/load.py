"""Reading specs from YAML: errors name file, key, value and remedy."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Tag, ValidationError

from millrace.errors import SpecError
from millrace.spec.base import Spec
from millrace.spec.domain import DomainSpec
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

SpecT = TypeVar("SpecT", bound=Spec)
Kind = Literal["domains", "use_cases", "policies"]
_PLAIN = {"literal_error", "string_type", "int_type", "float_type", "bool_type", "list_type", "too_short"}
"""Faults of a mapping, or of one in place of something else, whose message does not say where it stands."""
_DEEPEST = 200
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):
    """YAML in which a key stands once: of two, the first would go unread."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a list or mapping stands as a key", key.start_mark)
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(str(key.value))
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"{_short(node.value)} is not what it looks like ({error}); write a text in quotes"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error


def read_yaml(text: str, *, where: str) -> Any:
    """What stands in a text of YAML, or of JSON.

    Raises:
        SpecError: it is none, a key stands twice, or a value is none of its form, such as a day that there is not.
    """
    try:
        if sum(map(text.count, "[{-?:")) > _DEEPEST and _too_deep(text):
            raise SpecError(f"nested deeper than {_DEEPEST} levels", where=where, remedy="write it flat")
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"not YAML: {error}", where=where, remedy="mend the syntax at that line") from error


def _too_deep(text: str) -> bool:
    """Whether lists and mappings nest without end: libyaml makes nodes by recursion, which would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return True
    return False


def load_domain(folder: Path, name: str) -> DomainSpec:
    """The domain `<folder>/domains/<name>.yaml`.

    Raises:
        SpecError: no such file, not YAML, or a key or value in it is wrong.
    """
    path = folder / "domains" / f"{name}.yaml"
    domain = _load(path, DomainSpec)
    _same_name(path, domain.name)
    named = {f"feature_tables.{key}": table.origin for key, table in domain.feature_tables.items()}
    named |= {f"on_demand.{key}": view.function for key, view in domain.on_demand.items()}
    for where, origin in named.items():
        file = origin.partition(":")[0]
        if not (path.parent / file).is_file():
            raise SpecError(f"no such file: {file}", where=f"{path}: {where}", remedy="correct its sql or function")
    return domain


def load_use_case(folder: Path, name: str) -> UseCaseSpec:
    """The use case `<folder>/use_cases/<name>.yaml`.

    Raises:
        SpecError: no such file, not YAML, or a key or value in it is wrong.
    """
    path = folder / "use_cases" / f"{name}.yaml"
    use_case = _load(path, UseCaseSpec)
    _same_name(path, use_case.name)
    return use_case


def load_policy(folder: Path, tier: str) -> PolicySpec:
    """The policy `<folder>/policies/<tier>.yaml`.

    Raises:
        SpecError: no such file, not YAML, or a key or value in it is wrong.
    """
    path = folder / "policies" / f"{tier}.yaml"
    policy = _load(path, PolicySpec)
    _same_name(path, policy.tier)
    return policy


def list_specs(folder: Path, kind: Kind) -> list[str]:
    """Names of the specs of a kind, sorted."""
    return sorted(path.stem for path in (folder / kind).glob("*.yaml"))


def _load(path: Path, model: type[SpecT]) -> SpecT:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.stem, [item.stem for item in path.parent.glob("*.yaml")], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"add {path.name}, or correct the name"
        raise SpecError(f"no spec {path.stem!r}", where=str(path), remedy=hint) from None
    except UnicodeDecodeError as error:
        raise SpecError("not UTF-8 text", where=str(path), remedy="save the file as UTF-8") from error
    values = read_yaml(text, where=str(path))
    if not isinstance(values, Mapping):
        raise SpecError("not a mapping of keys to values", where=str(path), remedy="start the file with `name: …`")
    return check_values(model, values, where=str(path))


def check_values(model: type[SpecT], values: Mapping[str, Any], *, where: str) -> SpecT:
    """The values as a spec of that model.

    Raises:
        SpecError: a key or value is wrong; the message names it and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(where, model, error) from None


def _explain(where: str, model: type[Spec], error: ValidationError) -> SpecError:
    faults, remedies = [], []
    for fault in _told(model, error):
        place = ".".join(str(part) for part in _keys(model, fault["loc"])) or "(the whole)"
        if fault["type"] == "extra_forbidden":
            known = _keys_at(model, fault["loc"][:-1])
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            faults.append(f"unknown key {place!r}")
            remedies.append(f"did you mean {near[0]!r}?" if near else f"remove it; known are: {', '.join(known)}")
        elif fault["type"] == "missing":
            faults.append(f"key {place!r} is missing")
            remedies.append(f"add {place!r}")
        elif fault["type"].startswith("union_tag_") and (kinds := _kinds(_walk(model, fault["loc"])[1])):
            said, remedy = _explain_kind(place, fault, list(kinds))
            faults.append(said)
            remedies.append(remedy)
        elif (
            isinstance(fault["input"], Mapping) and fault["type"] not in _PLAIN
        ):  # a rule between keys, which the message names
            faults.append(_message(fault))
            remedies.append(_remedy(fault) or (f"correct {place!r}" if fault["loc"] else "correct what it names"))
        else:
            faults.append(f"{place}: {_message(fault)} (is {_short(fault['input'])})")
            remedies.append(_remedy(fault) or _name_remedy(fault) or f"correct {place!r}")
    return SpecError("; ".join(faults), where=where, remedy="; ".join(dict.fromkeys(remedies)))


def _told(model: type[Spec], error: ValidationError) -> list[Any]:
    """The faults; where a value may have several forms, one fault for all of them, or those of the form it has."""
    found: dict[Any, Any] = {}
    places = [fault["loc"] for fault in error.errors()]
    for number, fault in enumerate(error.errors()):
        place = fault["loc"]
        if not place or _form(_walk(model, place[:-1])[1], place[-1]) is None:
            found[number] = fault
        elif any(len(other) > len(place) and other[: len(place) - 1] == place[:-1] for other in places):
            continue
        elif place[:-1] in found:
            found[place[:-1]]["msg"] += " or " + _message(fault).removeprefix("Input should be ")
        else:
            found[place[:-1]] = {**fault, "msg": _message(fault)}
    return list(found.values())


def _remedy(fault: Mapping[str, Any]) -> str:
    """What the rule itself says that mends it, if anything."""
    return str(getattr(fault.get("ctx", {}).get("error"), "remedy", ""))


def _name_remedy(fault: Mapping[str, Any]) -> str:
    """Of a column whose name has a space or the like: the name it may have, and how it is read all the same."""
    place = fault["loc"]
    if fault["type"] != "string_pattern_mismatch" or place[-1] != "[key]" or "columns" not in place:
        return ""
    given = str(fault["input"])
    name = re.sub(r"\W+", "_", given.strip(), flags=re.ASCII).strip("_").lower() or "name"
    name = f"_{name}" if name[0].isdigit() else name
    return f'call it {name!r}; of a CSV file say `header: {{{name}: "{given}"}}` beside `columns`'


def _message(fault: Mapping[str, Any]) -> str:
    if fault["type"] in {"dict_type", "model_type", "model_attributes_type"}:
        return "Input should be a mapping of keys to values"
    if fault["type"] == "too_short":
        return f"Input should have at least {fault['ctx']['min_length']} of what belongs there"
    return str(fault["msg"]).removeprefix("Value error, ")


def _explain_kind(place: str, fault: Any, kinds: list[str]) -> tuple[str, str]:
    """What is said of a mapping whose key that tells its kind is missing or wrong, and the remedy."""
    key = str(fault["ctx"]["discriminator"]).strip("'")
    if fault["type"] == "union_tag_not_found":
        return f"key '{place}.{key}' is missing", f"add `{key}: {' | '.join(kinds)}`"
    near = difflib.get_close_matches(str(fault["ctx"]["tag"]), kinds, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"write `{key}: {' | '.join(kinds)}`"
    return f"{place}.{key}: {fault['ctx']['tag']!r} is none of {', '.join(kinds)}", remedy


def _keys_at(model: type[Spec], place: tuple[int | str, ...]) -> list[str]:
    return list(getattr(_walk(model, place)[1], "model_fields", {}))


def _keys(model: type[Spec], place: tuple[int | str, ...]) -> list[int | str]:
    """The place as a person wrote it: pydantic also names which of several models it tried."""
    return _walk(model, place)[0]


def _walk(model: type[Spec], place: tuple[int | str, ...]) -> tuple[list[int | str], Any]:
    """Keys of a place in the YAML, and the type of what stands there."""
    found: Any = model
    keys: list[int | str] = []
    for part in place:
        chosen = _tagged(found).get(str(part)) or _kinds(found).get(str(part)) or _form(found, part)
        if chosen is not None:
            found = chosen
            continue
        keys.append(part)
        field = getattr(found, "model_fields", {}).get(str(part))
        found = _bare(field.annotation) if field else _value_type(found)
    return keys, found


def _tagged(annotation: Any) -> dict[str, Any]:
    """Tag → model, where several models are told apart by a tag."""
    found = {}
    for member in typing.get_args(annotation):
        for note in getattr(member, "__metadata__", ()):
            if isinstance(note, Tag):
                found[note.tag] = typing.get_args(member)[0]
    return found


def _kinds(annotation: Any) -> dict[str, Any]:
    """Kind → model, where each of several models has a key of its own value that tells it from the others."""
    found: dict[str, Any] = {}
    for member in _members(annotation):
        for field in getattr(member, "model_fields", {}).values():
            if field.is_required() and typing.get_origin(field.annotation) is Literal:
                found |= dict.fromkeys(map(str, typing.get_args(field.annotation)), member)
    return found


def _form(annotation: Any, part: int | str) -> Any:
    """The type that pydantic names so, where a value may have one of several that no key tells apart."""
    members = [] if _tagged(annotation) or _kinds(annotation) else _members(annotation)
    for member in members if len(members) > 1 else []:
        plain = _bare(member)
        origin = typing.get_origin(plain)
        name = "literal" if origin is Literal else getattr(origin or plain, "__name__", "")
        if str(part).partition("[")[0].removeprefix("constrained-") == name:
            return plain
    return None


def _members(annotation: Any) -> list[Any]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return [item for item in typing.get_args(annotation) if item is not type(None)] if is_union else []


def _value_type(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    return _bare(arguments[-1]) if arguments else annotation


def _bare(annotation: Any) -> Any:
    """Without `Annotated[…]` and `… | None` around it."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    members = [item for item in typing.get_args(annotation) if item is not type(None)]
    optional = len(members) == 1 and len(typing.get_args(annotation)) == 2
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return _bare(members[0]) if optional and is_union else annotation


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _same_name(path: Path, name: str) -> None:
    if path.stem != name:
        raise SpecError(
            f"the file is called {path.stem!r} but says {name!r}", where=str(path), remedy="make the two the same"
        )
