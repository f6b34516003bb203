"""Back-translated and distilled pairs from decoding output."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from stk.data.example import Example
from stk.data.synthetic import SyntheticRules, read_candidates, synthetic_pairs
from stk.errors import StkError

ROWS = [
    Example(id="1", src_text="ein Haus", src_lang="de", tgt_text="a house", tgt_lang="en", row=1),
    Example(id="2", src_text="zwei Affen", src_lang="de", tgt_text="two apes", tgt_lang="en"),
]
OUTPUTS = {"1": ("one house", "a house"), "2": ("two monkeys",)}


def test_back_translation_leaves_the_target_untouched() -> None:
    rows = list(synthetic_pairs(ROWS, OUTPUTS, side="source"))
    assert [(r.src_text, r.src_lang) for r in rows] == [("one house", "en"), ("two monkeys", "en")]
    assert [(r.tgt_text, r.tgt_lang) for r in rows] == [("ein Haus", "de"), ("zwei Affen", "de")]
    assert [r.id for r in rows] == ["1-bt", "2-bt"]


def test_sequence_distillation_keeps_the_source() -> None:
    rows = list(synthetic_pairs(ROWS, OUTPUTS, side="target"))
    assert [(r.src_text, r.tgt_text) for r in rows] == [
        ("ein Haus", "one house"),
        ("zwei Affen", "two monkeys"),
    ]


def test_the_output_nearest_to_the_reference_is_taken() -> None:
    def equal(hypothesis: str, reference: str) -> float:
        return float(hypothesis == reference)

    rows = list(synthetic_pairs(ROWS, OUTPUTS, side="target", nearest=equal))
    assert [r.tgt_text for r in rows] == ["a house", "two monkeys"]


def test_filters_and_faults() -> None:
    left_out: Counter[str] = Counter()
    outputs = {"1": ("",), "2": ("monkey " * 40,)}
    assert not list(synthetic_pairs(ROWS, outputs, side="source", left_out=left_out))
    assert left_out == {"empty": 1, "lengths do not fit": 1}
    rules = SyntheticRules(longest=50, ratio=100.0)
    assert len(list(synthetic_pairs(ROWS, outputs, side="source", rules=rules))) == 1
    with pytest.raises(StkError, match="example '2' was not decoded"):
        list(synthetic_pairs(ROWS, {"1": ("x y",)}, side="source"))
    bare = [Example(id="1", src_text="ein Haus", src_lang="de")]
    with pytest.raises(StkError, match="lacks tgt_lang"):
        list(synthetic_pairs(bare, OUTPUTS, side="source"))
    (row,) = synthetic_pairs(bare, OUTPUTS, side="source", language="en")
    assert row.src_lang == "en"
    with pytest.raises(ValueError, match="ratio must be at least 1"):
        SyntheticRules(ratio=0.5)


def test_decoding_output_is_read(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    row = {"id": "1", "text": "a", "nbest": [{"text": "a"}, {"text": "b"}]}
    file.write_text(json.dumps(row) + "\n")
    assert read_candidates(file) == {"1": ("a", "b")}
    file.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(StkError, match=r"out\.jsonl:2: id '1' stands twice"):
        read_candidates(file)
    file.write_text('{"id": "1"}\n')
    with pytest.raises(StkError, match=r"out\.jsonl:1: no decoding output"):
        read_candidates(file)
