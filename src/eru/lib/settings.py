"""Typed settings from a YAML file and the environment.

A settings type is a msgspec Struct whose fields may be Structs again. Beside
msgspec's own types there are `Duration` (seconds; written 30s, 1m30s, 500ms or
a plain number of seconds) and `Secret` (text that is never shown). Where a
list is expected, one single value does too.

Rules: unknown keys are collected as warnings, never errors, since files are
shared with other programs; a wrong type is an error that names the path, the
value and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml

T = TypeVar("T", bound=msgspec.Struct)

_DURATION = "duration"
_SECRET = "secret"
Duration = Annotated[float, msgspec.Meta(extra={"means": _DURATION})]
Secret = Annotated[str, msgspec.Meta(extra={"means": _SECRET})]
MASK = "***"

_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


class _Written(str):
    """A number, a truth or a time as it stands in a file: its key decides whether it is one, or text."""


class _Loader(yaml.SafeLoader):
    """Leaves open what unquoted words mean."""


for _tag in ("int", "float", "bool", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", lambda loader, node: _Written(node.value))


class SettingsError(ValueError):
    """A setting cannot be used; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Settings, and what was odd about where they came from."""

    settings: T
    warnings: list[str] = field(default_factory=list)


def parse_duration(text: str | float) -> float:
    """Seconds of `1m30s`, `500ms` or a plain number of seconds. Raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    plain = str(text).strip()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    parts = _DURATION_PART.findall(plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises SettingsError; a missing file is FileNotFoundError."""
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except (PermissionError, IsADirectoryError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def overrides(
    type_: type[msgspec.Struct],
    environ: Mapping[str, str],
    prefix: str,
    renamed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What the environment says about `type_`, nested like the file.

    `docker.network_mode` is looked up as <prefix>_DOCKER_NETWORK_MODE and
    <prefix>_DOCKER_NETWORKMODE; `renamed` adds the spelling that another
    program uses for a path. Values are read as YAML, except where text is expected.
    """
    found: dict[str, Any] = {}
    for path, hint in leaves(type_):
        spellings = ["_".join(path), "_".join(part.replace("_", "") for part in path)]
        if (extra := (renamed or {}).get(".".join(path))) is not None:
            spellings.insert(0, extra)
        for spelling in spellings:
            text = environ.get(f"{prefix}_{spelling}".upper())
            if text is not None:
                value = text if _is_text(hint) else _from_environment(f"{prefix}_{spelling}".upper(), text)
                _put(found, path, value)
                break
    return found


def build(type_: type[T], *layers: Mapping[str, Any], where: str = "settings") -> Loaded[T]:
    """Settings out of nested mappings, later layers over earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    warnings: list[str] = []
    settings = _struct(type_, merged, (), where, warnings)
    return Loaded(settings, warnings)


def shown(settings: msgspec.Struct) -> dict[str, Any]:
    """Everything in effect, nested and plain, with secrets masked."""
    result: dict[str, Any] = {}
    for name, hint in _fields(type(settings)).items():
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            result[name] = shown(value)
        elif _means(hint) == _SECRET:
            result[name] = MASK if value else ""
        elif isinstance(value, dict):
            result[name] = {k: shown(v) if isinstance(v, msgspec.Struct) else v for k, v in value.items()}
        else:
            result[name] = value
    return result


def leaves(type_: type[msgspec.Struct], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The paths and types of all settings that are not sections."""
    for name, hint in _fields(type_).items():
        if _is_struct(hint):
            yield from leaves(hint, (*above, name))
        else:
            yield (*above, name), hint


def _struct(type_: type[T], given: Mapping[str, Any], above: tuple[str, ...], where: str, warnings: list[str]) -> T:
    fields = _fields(type_)
    values: dict[str, Any] = {}
    for key, value in given.items():
        path = (*above, str(key))
        if key not in fields:
            warnings.append(f"{where}: {'.'.join(path)} is not a known key and is ignored")
            continue
        if value is None:
            continue
        hint = fields[key]
        if not _is_struct(hint):
            values[key] = _leaf(hint, value, path, where)
        elif isinstance(value, Mapping):
            values[key] = _struct(hint, value, path, where, warnings)
        else:
            told = repr(_meant(Any, value))
            raise SettingsError(f"{where}: {'.'.join(path)} is {told}, expected a section with keys of its own")
    return type_(**values)


def _leaf(hint: Any, value: Any, path: tuple[str, ...], where: str) -> Any:
    secret = _means(hint) == _SECRET
    value = _meant(hint, value)
    try:
        if _means(hint) == _DURATION:
            return parse_duration(value)
        if get_origin(hint) is list and not isinstance(value, list):
            value = [value]
        if _is_text(hint) and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        return msgspec.convert(value, hint, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        told = MASK if secret else repr(value)
        raise SettingsError(f"{where}: {'.'.join(path)} is {told}, expected {_expected(hint)}") from error


def _meant(hint: Any, value: Any) -> Any:
    """Where text is wanted, `0123` and `yes` are text; elsewhere they are what YAML takes them for."""
    if isinstance(value, _Written):
        return str(value) if _is_text(hint) else yaml.safe_load(value)
    if isinstance(value, list):
        return [_meant(get_args(hint)[0] if get_origin(hint) is list else hint, item) for item in value]
    if isinstance(value, dict):
        named = _fields(hint) if _is_struct(hint) else {}
        inner = get_args(hint)[1] if get_origin(hint) is dict else Any
        return {str(key): _meant(named.get(str(key), inner), item) for key, item in value.items()}
    return value


def _expected(hint: Any) -> str:
    if _means(hint) == _DURATION:
        return "a duration such as 30s or 1m30s"
    if _is_text(hint):
        return "text"
    if get_origin(hint) is list:
        return f"a list of {_expected(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "keys and values"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, str(hint))


def _fields(type_: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(type_, include_extras=True)
    return {name: hints[name] for name in type_.__struct_fields__}


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _is_text(hint: Any) -> bool:
    return hint is str or _means(hint) == _SECRET


def _means(hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        return ""
    for extra in get_args(hint)[1:]:
        if isinstance(extra, msgspec.Meta) and extra.extra:
            return str(extra.extra.get("means", ""))
    return ""


def _from_environment(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"environment variable {name} is not valid YAML: {text!r}") from error


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            _merge(under[key], value)
        else:
            under[key] = dict(value) if isinstance(value, Mapping) else value
