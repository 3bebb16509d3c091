"""What an agent is told by its file, the files beside it and `CONFIGOR_` variables, merged, before it is typed.

The published agent's loader reads more than the file it is pointed to: a file
of the stage beside it, an example where there is none, and a variable for
every key. Whoever relies on one of these finds it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_origin, get_type_hints

import msgspec
import yaml

from eru.model.errors import InvalidInput

# Keys whose name in the published program is another one; its other names are the keys without their underscores.
_PUBLISHED_NAMES = {"pid": "pidfile"}
_FALSE = ("", "0", "f", "false")


def read_given(
    type_: type[msgspec.Struct], path: str, required: bool, environ: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """The merged files, and a remark on where they came from, if there is something to say.

    The file of the stage, `agent.<CONFIGOR_ENV>.yaml` (`development` where that is not set), lies over the file.
    Where neither is there, `agent.example.yaml` is read. Where that is missing as well, a `required` file is
    refused, unless a variable names core. Raises InvalidInput.
    """
    stage = environ.get("CONFIGOR_ENV") or "development"
    found = [(name, text) for name in (path, _beside(path, stage)) if (text := _read(name)) is not None]
    remark = ""
    if not found and (text := _read(_beside(path, "example"))) is not None:
        found = [(_beside(path, "example"), text)]
        remark = f"config file {path} does not exist, {found[0][0]} is used"
    if not found:
        if required and not environ.get(f"{_prefix(environ)}_CORE"):
            raise InvalidInput(f"config file {path} does not exist")
        return {}, f"config file {path} does not exist"
    merged: dict[str, Any] = {}
    for name, text in found:
        lay_over(merged, parse_given(type_, text, name))
    return merged, remark


def parse_given(type_: type[msgspec.Struct], text: str, origin: str) -> dict[str, Any]:
    """Keys and values of a YAML text, in the forms that `type_` expects. Raises InvalidInput."""
    try:
        loaded = next(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), None) or {}
        written = next(yaml.load_all(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)), None)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise InvalidInput(f"{origin} must hold keys and values, not a {type(loaded).__name__}")
    return _fitted(type_, loaded, written)


def from_environment(type_: type[msgspec.Struct], environ: Mapping[str, str]) -> dict[str, Any]:
    """What `CONFIGOR_<KEY>` variables say, nested as the file: `CONFIGOR_LOG_FORWARDS`, `CONFIGOR_HEARTBEATINTERVAL`.

    Values are YAML; text is taken as it is. CONFIGOR_ENV_PREFIX sets another prefix.
    """
    found: dict[str, Any] = {}
    for path, hint in _leaves(type_):
        for name in _spellings(_prefix(environ), path):
            if text := environ.get(name):
                target = found
                for part in path[:-1]:
                    target = target.setdefault(part, {})
                target[path[-1]] = _value(name, text, hint)
                break
    return found


def explained(error: msgspec.ValidationError, given: Mapping[str, Any], origin: str) -> InvalidInput:
    """What is wrong with the value of which key, and what it should be."""
    told = re.fullmatch(r"Expected `(?P<wanted>[^`]+)`.* - at `\$\.?(?P<path>.*)`", str(error))
    if told is None:
        return InvalidInput(f"{origin}: {error}")
    value: Any = given
    for part in re.findall(r"[^.\[\]]+", told["path"]):
        value = value[int(part)] if isinstance(value, list) else value.get(part)
    wanted = {"int": "a whole number", "bool": "true or false", "str": "text", "object": "a section with keys"}
    expected = wanted.get(told["wanted"], "a list" if told["wanted"] == "array" else told["wanted"])
    shown = "***" if told["path"].endswith(("password", "token")) else repr(value)
    return InvalidInput(f"{origin}: {told['path']} is {shown}, expected {expected}")


def lay_over(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Merge `over` into `under`; it decides where both say something."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            lay_over(under[key], value)
        else:
            under[key] = value


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"config file {path} cannot be read: {error}") from error


def _beside(path: str, stage: str) -> str:
    file = Path(path)
    return str(file.with_name(f"{file.stem}.{stage}{file.suffix}"))


def _fitted(type_: type[msgspec.Struct], loaded: dict[Any, Any], written: Any) -> dict[str, Any]:
    """Without keys that have nothing behind them: they mean the default. `written`: the same, every value as text."""
    hints = get_type_hints(type_)
    texts = written if isinstance(written, dict) else {}
    result: dict[str, Any] = {}
    for key, value in loaded.items():
        if value is None:
            continue
        name, text = str(key), texts.get(str(key))
        hint = hints.get(name)
        if _is_section(hint) and isinstance(value, dict):
            result[name] = _fitted(hint, value, text)
        elif get_origin(hint) is list:
            result[name] = _listed(value, text)
        else:
            result[name] = _as_text(value, text) if hint is str else value
    return result


def _listed(value: Any, text: Any) -> Any:
    """One value where several are expected is a list of one, or of more if it has commas."""
    if isinstance(value, list):
        texts = text if isinstance(text, list) and len(text) == len(value) else [None] * len(value)
        return [_as_text(item, written) for item, written in zip(value, texts, strict=True)]
    if isinstance(value, dict):
        return value
    return [part.strip() for part in str(_as_text(value, text)).split(",") if part.strip()]


def _as_text(value: Any, text: Any) -> Any:
    """0123 is text where text is expected, not eighty-three."""
    if isinstance(value, str | list | dict):
        return value
    return text if isinstance(text, str) else str(value)


def _is_section(hint: Any) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _leaves(type_: type[msgspec.Struct], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, hint in get_type_hints(type_).items():
        if _is_section(hint):
            yield from _leaves(hint, (*above, name))
        else:
            yield (*above, name), hint


def _prefix(environ: Mapping[str, str]) -> str:
    return environ.get("CONFIGOR_ENV_PREFIX") or "CONFIGOR"


def _spellings(prefix: str, path: tuple[str, ...]) -> Iterator[str]:
    """The published name, the same with the key's underscores."""
    names = ("_".join(_PUBLISHED_NAMES.get(part, part.replace("_", "")) for part in path), "_".join(path))
    for name in names:
        yield f"{prefix}_{name}".upper()


def _value(name: str, text: str, hint: Any) -> Any:
    if hint is str:
        return text
    if hint is bool:
        return text.lower() not in _FALSE
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{name} is {text!r}, expected YAML") from error
    return _listed(value, None) if get_origin(hint) is list else value
