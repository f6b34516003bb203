"""Strict configuration: what is accepted, what is refused and with which words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping, to_plain, to_yaml
from stk.errors import StkError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    limit: int | None = None
    table: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError("limit must not be negative")


def test_builds_nested_values_and_defaults() -> None:
    data = {"name": "x", "inner": {"rate": "1e-4", "sizes": [1, 2]}, "table": {"w": 1}}
    made = build(Outer, data)
    assert made == Outer(name="x", inner=Inner(rate=1e-4, sizes=(1, 2)), table={"w": 1.0})
    assert isinstance(made.table["w"], float)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "x", "kindd": "a"}, "unknown key 'kindd' (nearest known key: kind)"),
        ({"name": "x", "inner": {"rat": 1}}, "unknown key 'inner.rat' (nearest known key: rate)"),
        ({}, "missing key 'name'"),
        ({"name": 3}, "name: expected str, found 3 (int)"),
        ({"name": "x", "kind": "c"}, "kind: 'c' is not one of a, b"),
        ({"name": "x", "limit": True}, "limit: expected int, found True (bool)"),
        ({"name": "x", "limit": -1}, "limit must not be negative"),
        ({"name": "x", "inner": {"sizes": 3}}, "inner.sizes: expected a list, found 3"),
        ({"name": "x", "inner": 3}, "inner: expected keys, found 3"),
    ],
)
def test_refuses_with_one_line(data: dict[str, object], words: str) -> None:
    with pytest.raises(StkError) as caught:
        build(Outer, data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_bases_are_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "size.yaml").write_text("name: low\ninner: {rate: 0.1, sizes: [4]}\n")
    (tmp_path / "task.yaml").write_text("name: mid\ninner: {sizes: [5, 6]}\n")
    (tmp_path / "top.yaml").write_text("base:\n  - size.yaml\n  - task.yaml\ninner: {rate: 0.3}\n")
    found = load_mapping(tmp_path / "top.yaml")
    assert found == {"name": "mid", "inner": {"rate": 0.3, "sizes": [5, 6]}}


def test_base_files_overrides_and_round_trip(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: low\ninner: {rate: 0.1, sizes: [4]}\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\nname: high\n")
    data = load_mapping(tmp_path / "top.yaml", ["inner.rate=2e-3", "limit=7"])
    made = build(Outer, data)
    assert (made.name, made.inner.rate, made.inner.sizes, made.limit) == ("high", 2e-3, (4,), 7)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(made))
    assert build(Outer, load_mapping(again)) == made


def test_overrides_reach_into_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "here")
    file = tmp_path / "run.yaml"
    file.write_text(
        "streams:\n  - {name: a, batch: {max: 1}}\n  - {name: b}\ninner: {x: 1, y: 2}\n"
    )
    changes = ["streams[0].batch.max=5", "streams[1].weight=2.0", "inner={x: 3}"]
    found = load_mapping(file, [*changes, "where=${oc.env:PLACE}/a=b", "none=null"])
    assert found["streams"] == [
        {"name": "a", "batch": {"max": 5}},
        {"name": "b", "weight": 2.0},
    ]
    assert found["inner"] == {"x": 3, "y": 2}
    assert found["where"] == "here/a=b" and found["none"] is None
    assert load_mapping(file, ["streams=[{name: c}]"])["streams"] == [{"name": "c"}]


@pytest.mark.parametrize("override", ["streams[2].name=x", "streams.name=x", "inner=[1]", "a=[1"])
def test_an_override_that_fits_nowhere(tmp_path: Path, override: str) -> None:
    (tmp_path / "run.yaml").write_text("streams: [{name: a}]\ninner: {x: 1}\n")
    with pytest.raises(StkError, match="override .* does not fit"):
        load_mapping(tmp_path / "run.yaml", [override])


def test_unreadable_files_name_themselves(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2\n")
    for path in (tmp_path / "none.yaml", broken):
        with pytest.raises(StkError, match=path.name):
            load_mapping(path)
    circle = tmp_path / "circle.yaml"
    circle.write_text("base: circle.yaml\n")
    with pytest.raises(StkError, match="circle"):
        load_mapping(circle)
    (tmp_path / "ok.yaml").write_text("a: 1\n")
    with pytest.raises(StkError, match="key=value"):
        load_mapping(tmp_path / "ok.yaml", ["a"])


def minimal_run() -> dict[str, object]:
    stream = {
        "name": "st", "manifests": ["m"], "objective": {"name": "ce"}, "batch": {"max_frames": 10},
    }  # fmt: skip
    return {
        "output": "o", "model": {"name": "m"}, "vocabularies": {}, "streams": [stream],
        "training": {"max_updates": 1},
    }  # fmt: skip


def test_run_config_checks_across_fields() -> None:
    made = build(RunConfig, minimal_run())
    assert build(RunConfig, to_plain(made)) == made
    double = minimal_run()
    double["streams"] = [*double["streams"], *double["streams"]]  # type: ignore[misc]
    for change, words in [
        (double, "names must differ"),
        ({**minimal_run(), "validation": {"by": "bleu"}}, "needs decode_manifest"),
        ({**minimal_run(), "schedule": {"name": "cosine"}}, "needs total"),
        ({**minimal_run(), "features": {"cmvn": "global"}}, "go together"),
    ]:
        with pytest.raises(StkError, match=words):
            build(RunConfig, change)
