"""Similarity of dictionary pairs, and their picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stk.cli.data import main
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.reports.embeddings import (
    correlation,
    embedding_table,
    principal_plane,
    similarity,
    word_vectors,
)


@pytest.fixture
def vocab() -> CharVocab:
    return CharVocab.of_texts(["abcd"], ("en",))


def test_cosine_and_distance(vocab: CharVocab) -> None:
    table = torch.zeros(len(vocab), 2)
    for letter, row in zip("abcd", ((1.0, 0.0), (2.0, 0.0), (0.0, 1.0), (0.0, 3.0)), strict=True):
        table[vocab.encode(letter)[0]] = torch.tensor(row)
    found = similarity([("a", "b"), ("c", "d")], vocab, table)
    assert found.pairs == 2 and found.cosine == pytest.approx(1.0)
    assert found.distance == pytest.approx((1.0 + 2.0) / 2) and found.unrelated == 0.0
    assert word_vectors(["ac"], vocab, table).tolist() == [[0.5, 0.5]]  # the mean of its pieces
    with pytest.raises(StkError, match="no piece of 'xyz'"):
        word_vectors(["xyz"], vocab, table)
    with pytest.raises(StkError, match="too few"):
        similarity([("a", "b")], vocab, table)


def test_plane_agrees_with_the_covariance() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4)) * np.array([1.0, 5.0, 0.5, 3.0]) + 7.0
    plane = principal_plane(vectors)
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1][:2]
    np.testing.assert_allclose(plane.var(axis=0, ddof=1), values)
    np.testing.assert_allclose(plane.mean(axis=0), 0.0, atol=1e-12)
    assert abs(np.corrcoef(plane.T)[0, 1]) < 1e-9


def test_models_of_sound_have_no_table() -> None:
    sizes = {"layers": 1, "width": 8, "ffn": 8, "heads": 1}
    model = build_model({"name": "language_model", **sizes}, {"src": 11})
    assert embedding_table(model).shape == (11, 8)
    with pytest.raises(StkError, match="looks no tokens up"):
        embedding_table(torch.nn.Linear(2, 2))


def test_correlation_with_scores(vocab: CharVocab) -> None:
    """Pearson's, against its formula; scores that rise with the cosine give 1."""
    table = torch.randn(len(vocab), 6, generator=torch.Generator().manual_seed(1))
    pairs = [("a", "b"), ("c", "d"), ("ab", "cd"), ("a", "d")]
    firsts, seconds = (word_vectors([p[i] for p in pairs], vocab, table) for i in (0, 1))
    cosines = torch.cosine_similarity(firsts, seconds).double()
    scores = torch.tensor([1.0, 4.0, 0.5, 2.0], dtype=torch.float64)
    x, y = cosines - cosines.mean(), scores - scores.mean()
    expected = float((x * y).sum() / (x.norm() * y.norm()))

    def found(values: Tensor) -> float:
        triples = [(*pair, float(value)) for pair, value in zip(pairs, values, strict=True)]
        return correlation(triples, vocab, table)

    assert found(scores) == pytest.approx(expected)
    assert found(3 * cosines + 2) == pytest.approx(1.0)
    assert found(-cosines) == pytest.approx(-1.0)
    with pytest.raises(StkError, match="1 scored pairs are too few"):
        correlation([("a", "b", 1.0)], vocab, table)


def test_command(tmp_path: Path, vocab: CharVocab, capsys: pytest.CaptureFixture[str]) -> None:
    """Two checkpoints, one lexicon: figures as JSON, and a picture of both."""
    import json

    from stk.training.loop import train

    vocab.save(tmp_path / "vocab")
    row = {"id": "1", "src_text": "abcd", "src_lang": "en"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    for seed in (1, 2):
        objective = {"name": "causal_lm"}
        stream = {"name": "s", "manifests": [str(tmp_path / "m.jsonl")], "objective": objective}
        config = {
            "output": str(tmp_path / f"run{seed}"),
            "seed": seed,
            "model": {"name": "language_model", "layers": 1, "width": 8, "ffn": 8, "heads": 1},
            "vocabularies": {"src": str(tmp_path / "vocab")},
            "streams": [{**stream, "batch": {"max_examples": 1}}],
            "schedule": {"name": "constant", "warmup": 0},
            "training": {"max_updates": 1, "workers": 0, "device": "cpu"},
        }
        train(build(RunConfig, config))
    lexicon = tmp_path / "en-en.tsv"
    lexicon.write_text("a\tb\nc\td\nab\tcd\n")
    out, plot = tmp_path / "s.json", tmp_path / "s.png"
    arguments = ["similarity", "--lexicon", str(lexicon), "--out", str(out), "--plot", str(plot)]
    runs = [str(tmp_path / "run1"), str(tmp_path / "run2")]
    assert main([*arguments, "--checkpoint", *runs]) == 0
    figures = json.loads(out.read_text())["lexicons"]
    assert [figure["checkpoint"] for figure in figures] == runs
    assert all(figure["pairs"] == 3 and -1 <= figure["cosine"] <= 1 for figure in figures)
    assert figures[0]["cosine"] != figures[1]["cosine"]
    assert plot.read_bytes().startswith(b"\x89PNG") and plot.stat().st_size > 10000
    assert main([*arguments, "--before", "--checkpoint", *runs]) == 0
    before, *after = json.loads(out.read_text())["lexicons"]
    assert after == figures
    torch.manual_seed(1)  # of the first run
    untrained = embedding_table(build_model(config["model"], {"src": len(vocab)}))
    pairs = [("a", "b"), ("c", "d"), ("ab", "cd")]
    cosine = similarity(pairs, vocab, untrained).cosine
    assert before["checkpoint"] == "before training" and before["cosine"] == cosine
    scored = tmp_path / "scored.tsv"
    scored.write_text("a\tb\t3.5\n\na b\tc\t0\nd\tcd\t-1e1\n")
    judged = ["similarity", "--scored", str(scored), "--out", str(out), "--checkpoint", *runs]
    capsys.readouterr()
    assert main(judged) == 0
    assert f"{runs[0]}: {scored}: Pearson " in capsys.readouterr().out
    figures = json.loads(out.read_text())
    assert not figures["lexicons"] and [f["pairs"] for f in figures["scored"]] == [3, 3]
    assert figures["scored"][0]["pearson"] != figures["scored"][1]["pearson"]
    for bad in ("a\tb", "a\tb\tmuch", "a\tb\tnan", "a\t \t1", "a\tb\t1\t2"):
        scored.write_text(f"a\tb\t1\n{bad}\n")
        assert main(judged) == 1
        assert f"{scored}:2: no scored pair of words (word<TAB>word" in capsys.readouterr().err
    scored.write_text("a\tb\t1\nc\td\t1\n")
    assert main(judged) == 1 and "all scores are equal" in capsys.readouterr().err
    assert main(["similarity", "--checkpoint", *runs]) == 1
    assert "no pairs of words to compare" in capsys.readouterr().err
    assert main([*arguments, "--checkpoint", runs[0], "--view", "tgt"]) == 1
    assert "no view 'tgt' (--view takes src)" in capsys.readouterr().err
    lexicon.write_text("")
    assert main([*arguments, "--checkpoint", runs[0]]) == 1
    assert "the lexicon is empty" in capsys.readouterr().err
