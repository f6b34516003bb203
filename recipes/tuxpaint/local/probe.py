"""What a pre-trained wave encoder has learnt, measured on recordings that training never had.

Two figures: how well it tells masked steps apart, beside a control that hears nothing (control.py),
and what a linear layer to characters under CTC reads off its frozen states, layer by layer, beside
those of an encoder with random weights and filterbanks of the same rate.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from control import contrastive_stream, control, told_apart
from torch import Tensor, nn

from stk.cli.common import run
from stk.config.run import FeatureConfig
from stk.data.atomic import write_text
from stk.data.audio import load_audio
from stk.data.batch import Padded
from stk.data.example import Example
from stk.data.manifest import read_manifest
from stk.data.vocab import CharVocab
from stk.decoding.ctc_greedy import ctc_greedy
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.wav2vec2 import Wav2Vec2
from stk.scoring.wer import edits
from stk.training.assemble import load_data, new_model
from stk.training.checkpoint import Loaded, load_model
from stk.training.distributed import join

FRAME = 0.02  # seconds from one frame to the next, of all that is probed
Features = Callable[[Tensor], list[Tensor]]
"""Samples ``(N,)`` to one or several sequences of frames ``(T, D)``."""


class ProbeBatch(NamedTuple):
    """Frames ``(B, T, D)`` and characters ``(B, S)``, padded."""

    frames: Padded
    labels: Padded


def wave_layers(model: Wav2Vec2, frontend: FrontEnd) -> Features:
    """Normalised states of every layer, of one clip at a time."""
    model.eval()
    found: list[Tensor] = []
    for layer in model.encoder.stack.layers:
        layer.register_forward_hook(lambda _, __, out: found.append(out.view(-1, out.shape[-1])))

    @torch.no_grad()
    def features(samples: Tensor) -> list[Tensor]:
        found.clear()
        source = frontend([samples])
        model.encoder(source.data, source.lengths)
        return [F.layer_norm(states, states.shape[-1:]) for states in found]

    return features


def filterbanks(rate: int) -> Features:
    """80 bins, normalised by clip; two frames of 10 ms side by side are one of 20 ms."""
    frontend = FrontEnd(FeatureConfig(cmvn="utterance", sample_rate=rate))

    def features(samples: Tensor) -> list[Tensor]:
        frames = frontend([samples]).data[0]
        return [frames[: len(frames) // 2 * 2].reshape(-1, 2 * frames.shape[1])]

    return features


class Clips:
    """Frames and characters of some clips, in memory.

    Args:
        rows: clips with transcripts.
        features: what is probed.
        vocab: of the characters.
        rate: of the samples that ``features`` takes, in Hz.
    """

    def __init__(
        self, rows: Sequence[Example], features: Features, vocab: CharVocab, rate: int
    ) -> None:
        found = []
        for row in rows:
            assert row.audio is not None
            samples = load_audio(row.audio, row.start, row.duration, sample_rate=rate)
            found.append(features(samples))
        self.views = [list(view) for view in zip(*found, strict=True)]
        self.labels = [vocab.encode(characters(row)) for row in rows]

    def batches(self, view: int, order: torch.Generator | None = None) -> Iterator[ProbeBatch]:
        """Batches of 32 clips of like length, the shortest first, or in a random order."""
        frames = self.views[view]
        places = sorted(range(len(frames)), key=lambda i: len(frames[i]))
        chunks = [places[i : i + 32] for i in range(0, len(places), 32)]
        if order is not None:
            chunks = [chunks[i] for i in torch.randperm(len(chunks), generator=order).tolist()]
        for chunk in chunks:
            yield ProbeBatch(
                Padded.stack([frames[i] for i in chunk]),
                Padded.stack([self.labels[i] for i in chunk]),
            )


def characters(row: Example) -> str:
    """The transcript that is to be read."""
    return (row.src_text or "").casefold()


def probable(rows: Sequence[Example]) -> list[Example]:
    """Rows that have more than twice as many frames as characters, so that CTC can write them."""
    return [row for row in rows if (row.duration or 0.0) / FRAME - 2 > 2 * len(characters(row)) > 0]


def loss_of(layer: nn.Linear, batch: ProbeBatch) -> tuple[Tensor, Tensor]:
    """The summed CTC loss of a batch, and its logits ``(B, T, V)``."""
    logits = layer(batch.frames.data)
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    lengths, counts = batch.frames.lengths, batch.labels.lengths
    return F.ctc_loss(log_probs, batch.labels.data, lengths, counts, reduction="sum"), logits


def probe(train: Clips, held: Clips, view: int, size: int, epochs: int) -> dict[str, float]:
    """Train one linear layer; loss a character and character error rate on ``held``."""
    torch.manual_seed(1)
    layer = nn.Linear(train.views[view][0].shape[-1], size)
    optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in train.batches(view, order):
            loss, _ = loss_of(layer, batch)
            optimizer.zero_grad()
            (loss / batch.labels.lengths.sum()).backward()
            optimizer.step()
    total, errors, count = 0.0, 0, 0
    with torch.no_grad():
        for batch in held.batches(view):
            loss, logits = loss_of(layer, batch)
            total += float(loss)
            labels, lengths = batch.labels.data.tolist(), batch.labels.lengths.tolist()
            for found, row, length in zip(
                ctc_greedy(logits, batch.frames.lengths), labels, lengths, strict=True
            ):
                errors += edits([*map(str, found.tokens)], [*map(str, row[:length])]).total
                count += length
    return {"loss": total / count, "error_rate": errors / count}


def probes(
    models: dict[str, Wav2Vec2], frontend: FrontEnd, data: Path, epochs: int, most: int
) -> dict[str, dict[str, float]]:
    """Every layer of every model, and filterbanks.

    Args:
        models: by name.
        frontend: of the models.
        data: directory of ``train.jsonl`` and ``dev.jsonl``.
        epochs: of each probe.
        most: training clips; 0: all.
    """
    rows = {side: probable(read_manifest(data / f"{side}.jsonl")) for side in ("train", "dev")}
    for side, kept in rows.items():
        if not kept:
            raise StkError("no clip with a transcript", file=data / f"{side}.jsonl")
    rows["train"] = rows["train"][: most or None]
    vocab, rate = CharVocab.of_texts(map(characters, rows["train"])), frontend.sample_rate
    fronts = {"filterbank": filterbanks(rate)}
    fronts |= {name: wave_layers(model, frontend) for name, model in models.items()}
    found = {}
    for name, features in fronts.items():
        train, held = (Clips(rows[side], features, vocab, rate) for side in ("train", "dev"))
        for view in range(len(train.views)):
            label = name if len(train.views) == 1 else f"{name}, layer {view + 1}"
            found[label] = probe(train, held, view, len(vocab), epochs)
    return found


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    trained, deaf = result["trained"], result["control"]
    ratio = trained["accuracy"] / deaf["accuracy"] if deaf["accuracy"] else float("inf")
    lines = [
        f"After {result['updates']} updates the positive is told from the distractors at "
        f"{trained['accuracy']:.1%} of the masked steps, by a control that hears nothing at "
        f"{deaf['accuracy']:.1%}: {ratio:.1f} times as often. Perplexity of the codes: "
        f"{trained['code_perplexity']:.1f} of {trained['codes']:.0f}.",
        "",
        "| linear CTC on | loss a character | character error rate |",
        "|---|---|---|",
    ]
    for name, figures in result["probes"].items():
        lines.append(f"| {name} | {figures['loss']:.3f} | {figures['error_rate']:.1%} |")
    return "\n".join(lines)


def measure(loaded: Loaded, data: Path, epochs: int, most: int) -> dict[str, Any]:
    """All figures of a checkpoint; arguments as in :func:`probes`.

    Raises:
        StkError: it is no wav2vec 2.0, or its run's manifests are gone.
    """
    trained, config = loaded.model, loaded.config
    if not isinstance(trained, Wav2Vec2) or loaded.frontend is None:
        raise StkError("is no wav2vec 2.0", file=loaded.path, mend="train model: {name: wav2vec2}")
    began, streams = time.process_time(), load_data(config, join("cpu"))
    updates = int(json.loads((loaded.path / "metrics.json").read_text())["update"])
    result: dict[str, Any] = {
        "updates": updates,
        "trained": told_apart(trained, contrastive_stream(streams.validation)),
        "control": control(trained, config, streams, updates),
    }
    random = new_model(config, streams)
    assert isinstance(random, Wav2Vec2)
    models = {"pre-trained": trained, "random weights": random}
    result["probes"] = probes(models, loaded.frontend, data, epochs, most)
    result["cpu_seconds"] = time.process_time() - began
    return result


def main(argv: list[str]) -> None:
    """Parse the options, measure, write JSON and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="of wav2vec 2.0, by stk-train")
    parser.add_argument("--data", type=Path, required=True, help="of train.jsonl and dev.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--epochs", type=int, default=10, help="of each linear layer")
    parser.add_argument("--clips", type=int, default=0, help="that these train on (0: all)")
    options = parser.parse_args(argv)
    result = measure(load_model(options.checkpoint), options.data, options.epochs, options.clips)
    write_text(options.out, json.dumps(result, indent=1) + "\n")
    print(report(result))


if __name__ == "__main__":
    sys.exit(run(main))
