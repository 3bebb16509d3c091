"""JSON inside messages: what comes in as bags, what goes out as strings in the published style."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
import structlog

from eru.model.errors import InvalidInput
from eru.model.nodes import Resources

_log = structlog.get_logger(__name__)

_REMEMBERED = 1_024  # texts: nodes of a cluster and instances of a deploy are much alike
_REMEMBERED_BYTES_MAX = 4_096  # of one text
_FLOAT_EXACT_MAX = 2.0**53  # whole floats up to here are written as integers


def to_json(value: Any) -> str:
    """Keys sorted, no spaces, whole floats without a fraction, `<`, `>` and `&` escaped."""
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return _remembered(raw) if len(raw) <= _REMEMBERED_BYTES_MAX else _published(raw)


def _published(raw: bytes) -> str:
    text = orjson.dumps(_plain(orjson.loads(raw)), option=orjson.OPT_SORT_KEYS).decode()
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text


_remembered = lru_cache(_REMEMBERED)(_published)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _FLOAT_EXACT_MAX else value
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def parse_bags(bags: Mapping[str, bytes]) -> Resources:
    """Request bags per resource kind. One that is not a JSON object is dropped, as clients expect."""
    parsed: Resources = {}
    for name, data in bags.items():
        try:
            bag = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            _log.warning("resource request dropped, it is not JSON", kind=name[:64], error=str(error))
            continue
        if isinstance(bag, dict):
            parsed[name] = bag
        elif bag is not None:
            _log.warning("resource request dropped, it is not a JSON object", kind=name[:64])
    return parsed


def parse_object(field: str, data: bytes) -> dict[str, Any]:
    """A JSON object, or {} for no bytes. Raises InvalidInput."""
    if not data:
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{field} is not JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{field} is not a JSON object")
    return value
