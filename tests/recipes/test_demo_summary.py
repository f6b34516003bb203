"""What the demo prints at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from summary import as_text, summarise

from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.errors import StkError


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A finished run, without the set of the other engine."""
    for name, bleu in (("test", 88.25), ("test_seen", 95.0), ("test_template", 60.0)):
        rows = [
            Example(
                id=str(index),
                audio=tmp_path / f"{index}.wav",
                duration=2.0,
                src_text=f"said {index}",
                src_lang="en",
                tgt_text=f"gesagt {index}",
                tgt_lang="de",
            )
            for index in range(10)
        ]
        write_manifest(tmp_path / "data" / f"{name}.jsonl", rows)
        found = [
            {"name": "BLEU", "value": bleu, "signature": "B", "sentences": 10},
            {"name": "chrF2", "value": 96.0, "signature": "C", "sentences": 10},
        ]
        write(tmp_path / "scores" / f"{name}.json", {"scores": found})
        write(tmp_path / "decoded" / f"{name}.json", {"seconds": 1.0, "audio_seconds": 20.0})
        write(tmp_path / "measured" / f"decode-{name}.json", {"seconds": 3.0, "peak_mb": 700.0})
        lines = [json.dumps({"id": row.id, "text": f"output {row.id}"}) for row in reversed(rows)]
        (tmp_path / "decoded" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    write(tmp_path / "measured" / "train.json", {"seconds": 690.0, "peak_mb": 1500.0})
    write(tmp_path / "data" / "corpus.json", {"left_out": {"test_engine": "no apt"}})
    return tmp_path


def test_summary(work: Path) -> None:
    text = as_text(summarise(work), Path("/report.html"))
    lines = text.splitlines()
    assert lines[1].split() == ["test", "phrases,", "numbers,", "voices", "10", "88.2", "96.0"]
    assert "test_engine    left out: no apt" in lines
    assert "real-time factor 0.050, training 11.5 minutes, peak memory 1.50 GB" in lines
    assert "BLEU: B" in lines and "chrF: C" in lines
    said = [line for line in lines if line.startswith("said:")]
    assert said == [f"said:       said {index}" for index in (0, 2, 4, 6, 8)]
    assert lines[lines.index("reference:  gesagt 4") + 1] == "translated: output 4"
    assert lines[-1] == "report with pictures: /report.html"


def test_missing_figures_are_named(work: Path) -> None:
    (work / "measured" / "train.json").unlink()
    with pytest.raises(StkError, match="train.json: no such file"):
        summarise(work)
