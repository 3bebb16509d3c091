"""Messages as JSON and YAML documents, in the shapes that scripts already read.

JSON: two spaces of indent, the names of the proto fields in their declared
order, values that are zero left out, enums as numbers, bytes in base64, 64-bit
numbers as numbers, `<`, `>` and `&` escaped. YAML: the same document with keys
in alphabetical order and one empty line after it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from google.protobuf.message import Message

YAML_COLUMNS = 80  # longer text is folded at spaces
# text that readers of YAML 1.2, or strict ones of 1.1, take for a number or a truth
_OTHERS_READ = re.compile(r"[yYnN]|0[ob][0-7_]+|[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def as_data(message: Message) -> dict[str, Any]:
    """A message as plain dicts, lists and scalars; zero values and unset messages left out."""
    data: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = _field(message, field)
        if value is not None:
            data[field.name] = value
    return data


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _scalar(inner, value[key]) for key in sorted(value, key=str)} or None
    if field.is_repeated:
        return [_scalar(field, item) for item in value] or None
    if kind is not None:
        return as_data(value) if message.HasField(field.name) else None
    return _scalar(field, value) if value else None


def _scalar(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return as_data(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def to_json(data: Any, *, indent: int | None = 2) -> str:
    """One JSON document and a newline; `indent` None gives one line."""
    separators = None if indent else (",", ":")
    text = json.dumps(data, indent=indent, ensure_ascii=False, separators=separators)
    for char, escaped in _ESCAPES.items():
        text = text.replace(char, escaped)
    return text + "\n"


def to_yaml(data: Any) -> str:
    """One YAML document, keys sorted, and an empty line."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Plain, value: str) -> yaml.ScalarNode:
        """Double quotes around text that would be read as something else, blocks for several lines."""
        kind = dumper.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
        plain = kind == "tag:yaml.org,2002:str" and not _OTHERS_READ.fullmatch(value)
        style = "|" if "\n" in value else None if plain else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Plain.add_representer(str, text)
    made: str = yaml.dump(data, Dumper=Plain, sort_keys=True, allow_unicode=True, width=YAML_COLUMNS)
    return made.removesuffix("...\n") + "\n"


def expanded(data: Any) -> Any:
    """The same document with the JSON inside strings opened (`resources`, `resource_usage`, ...)."""
    if isinstance(data, list):
        return [expanded(item) for item in data]
    if isinstance(data, dict):
        return {key: _opened(key, value) for key, value in data.items()}
    return data


def selected(data: Any, fields: str) -> Any:
    """Only some fields of each item, in the order asked for, null where there is none; `?`: what fields there are.

    Raises Problem for a field that no message has.
    """
    items = data if isinstance(data, list) else [] if data is None else [data]
    there = list(dict.fromkeys(key for item in items if isinstance(item, dict) for key in item))
    if fields.strip() == "?":
        return there
    wanted = [each.strip() for each in fields.split(",") if each.strip()]
    for name in wanted:
        if name not in there and name not in _all_fields():
            from eru.cli.exits import usage
            from eru.cli.suggest import did_you_mean

            raise usage(f"--json {name!r} is no field of this", hint=did_you_mean(name, there) or "--json ? lists them")
    made = [{name: item.get(name) for name in wanted} for item in items if isinstance(item, dict)]
    return made if isinstance(data, list) or data is None else made[0]


def _all_fields() -> set[str]:
    from eru.cli.spec.messages import messages

    return {name for message in messages().values() for name in message.fields}


def _opened(key: str, value: Any) -> Any:
    if isinstance(value, str) and key in ("resources", "resource_capacity", "resource_usage", "info"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return expanded(value)
