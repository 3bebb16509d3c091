"""Durations and the shape of overrides."""

import msgspec
import pytest

from eru.lib.settings import Duration, SettingsError, build, overrides, parse_duration


class Inner(msgspec.Struct, kw_only=True):
    wait_time: Duration = 1.0


class Outer(msgspec.Struct, kw_only=True):
    names: list[str] = []
    inner: Inner = msgspec.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("2h", 7200.0), ("1.5s", 1.5), (7, 7.0), ("7", 7.0), (0, 0.0)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10x", "1m 30", "-5s", "30s later", True])
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_overrides_are_nested_like_the_file() -> None:
    environ = {"P_NAMES": "[a, b]", "P_INNER_WAITTIME": "2s", "OTHER": "x"}
    assert overrides(Outer, environ, "P") == {"names": ["a", "b"], "inner": {"wait_time": "2s"}}


def test_later_layers_win_key_by_key() -> None:
    loaded = build(Outer, {"names": ["a"], "inner": {"wait_time": 3}}, {"inner": {"wait_time": "4s"}})
    assert loaded.settings == Outer(names=["a"], inner=Inner(wait_time=4.0))


def test_an_empty_section_keeps_the_defaults() -> None:
    assert build(Outer, {"inner": None}).settings == Outer()


def test_unreadable_environment_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="P_NAMES"):
        overrides(Outer, {"P_NAMES": "[a"}, "P")
