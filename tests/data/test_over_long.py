"""Rows that a model of learned positions cannot read are left out before the first update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stk.cli.data import main as stk_data
from stk.config.run import BatchConfig, StreamConfig
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.data.stream import Stream
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.modules.lengths import LengthFormula
from stk.modules.positions import learned_limit
from stk.objectives.base import CollateContext, Context
from stk.objectives.registry import build_objective

VOCAB = CharVocab("ab", ("de", "en"))
SIZES = {"width": 8, "ffn": 8, "heads": 2, "positions": "learned", "max_positions": 9}
LM = {"name": "language_model", "layers": 1, **SIZES}
MT = {"name": "text_transformer", "encoder_layers": 1, "decoder_layers": 1, **SIZES}
TASK = {"source": "src_text", "source_prefix": "src_lang", "prefix": "tgt_lang"}
QUIET = {"name": "denoising", "permute": False, "infill": 0.0}


def manifest(directory: Path) -> Path:
    """Rows of 1 to 12 letters; the target is one letter shorter than the source, or the same."""
    rows = [
        Example(
            id=str(n),
            src_text=("ab" * n)[:n],  # no repeated labels, which CTC would need more states for
            src_lang="de",
            tgt_text="b" * max(1, n - 1),
            tgt_lang="en",
        )
        for n in range(1, 13)
    ]
    write_manifest(directory / "rows.jsonl", rows)
    return directory / "rows.jsonl"


@pytest.mark.parametrize(
    ("model", "objective", "longest"),
    [
        (LM, {"name": "causal_lm"}, 8),  # letters and the end symbol
        (LM, {"name": "masked_lm"}, 7),  # and the begin symbol
        (LM, {"name": "translation_lm"}, 7),  # each side for itself
        (MT, {"name": "mass"}, 8),
        (MT, QUIET, 8),
        (MT, {**QUIET, "layout": "tags"}, 7),
        (MT, {**QUIET, "layout": "mbart"}, 7),
        (MT, {"name": "cross_entropy", **TASK}, 7),
        (MT, {"name": "noised_translation", **TASK}, 7),
        ({**MT, "ctc_layer": 1, "ctc_view": "ctc"}, {"name": "joint", **TASK}, 7),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else str(value),
)
def test_what_is_kept_fits_and_what_is_left_out_does_not(
    tmp_path: Path, model: dict[str, Any], objective: dict[str, Any], longest: int
) -> None:
    network: Any = build_model(model, {"src": len(VOCAB), "tgt": len(VOCAB), "ctc": len(VOCAB)})
    context = CollateContext(
        vocabs={"src": VOCAB, "tgt": VOCAB, "ctc": VOCAB},
        ctc_lengths=LengthFormula(),
        max_positions=learned_limit(network),
    )
    config = StreamConfig(
        name="s",
        manifests=(str(manifest(tmp_path)),),
        objective=objective,
        batch=BatchConfig(max_examples=1),
    )
    built = build_objective(objective)
    report = Stream(config, built, context).report()
    assert report.kept == longest
    assert report.dropped == {"more than the model's max_positions 9": 12 - longest}
    where = f"rows.jsonl:{longest + 1}: {longest + 1}: more than the model's max_positions 9: 10"
    assert where in report.rows[0]
    every = Stream(config, built, CollateContext(vocabs=context.vocabs, ctc_lengths=lambda n: n))
    for n in (longest, longest + 1):
        item = every.item(n - 1, seed=1, epoch=0)
        batch = built.collate([item], context)
        if n == longest:
            sums = built.forward(network, batch, Context())
            assert all(torch.isfinite(one.value) for one in sums.values())
        else:
            with pytest.raises(StkError, match="fit into the model's 9 learned positions"):
                built.forward(network, batch, Context())


def test_check_tells_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VOCAB.save(tmp_path / "vocab")
    path = manifest(tmp_path)
    model = ", ".join(f"{key}: {value}" for key, value in LM.items())
    (tmp_path / "run.yaml").write_text(
        f"""
output: {tmp_path / "run"}
model: {{{model}}}
vocabularies: {{src: {tmp_path / "vocab"}}}
training: {{max_updates: 1, device: cpu}}
streams:
- {{name: lm, manifests: [{path}], objective: {{name: causal_lm}}, batch: {{max_tokens: 99}}}}
"""
    )
    command = ["check", str(tmp_path / "run.yaml"), "--rows"]
    assert stk_data(command) == 0
    out = capsys.readouterr().out
    assert "lm: 8 examples" in out and f"{path}:9: 9: more than the model's max_pos" in out
    assert stk_data([*command[:2], "model.positions=sinusoidal"]) == 0
    assert "lm: 12 examples" in capsys.readouterr().out
