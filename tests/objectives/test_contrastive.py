"""The contrastive objective: masks, distractors, losses, collapse, training by heart."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from stk.config.run import FeatureConfig
from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.models.wav2vec2 import Wav2Vec2
from stk.modules.quantizer import diversity_loss
from stk.modules.wave_features import WaveExtractor
from stk.objectives import contrastive, task
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import combine
from stk.objectives.contrastive import Contrastive, ContrastiveBatch, averaged, info_nce
from stk.objectives.masking import SpanConfig, draw_distractors, draw_spans, trim
from stk.objectives.registry import build_objective

MODEL: dict[str, Any] = {
    "name": "wav2vec2",
    "preset": "tiny",
    "layers": 1,
    "width": 32,
    "ffn": 48,
    "convolutions": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "input_dropout": 0.0,
    "feature_dropout": 0.0,
    "codes": 16,
    "target_dim": 16,
}


@pytest.fixture
def sound() -> CollateContext:
    frontend = FrontEnd(FeatureConfig(kind="waveform", cmvn="none"))
    return CollateContext(vocabs={}, frontend=frontend, wave_lengths=WaveExtractor().lengths)


def objective(**keys: Any) -> Contrastive:
    made = build_objective({"name": "contrastive", "distractors": 5, **keys})
    assert isinstance(made, Contrastive)
    return made


def tiny(**keys: Any) -> Wav2Vec2:
    torch.manual_seed(6)
    model = build_model({**MODEL, **keys}, {}, 1)
    assert isinstance(model, Wav2Vec2)
    return model


def test_spans_cover_about_half_and_do_not_repeat() -> None:
    rng, config, shares = np.random.default_rng(0), SpanConfig(), []
    for steps in (400, 700, 1000) * 20:
        places = draw_spans(steps, config, rng)
        assert len(set(places.tolist())) == len(places)
        assert places.min() >= 0 and places.max() < steps
        ordered = np.sort(places)
        runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
        assert min(len(run) for run in runs) >= 10
        shares.append(len(places) / steps)
    assert 0.45 < np.mean(shares) < 0.52
    assert config.expected(700) / 700 == pytest.approx(np.mean(shares), abs=0.03)
    assert len(draw_spans(11, config, rng)) == 11  # two starts in a clip with room for two


def test_trimming_keeps_random_steps_and_equal_counts() -> None:
    config = SpanConfig()
    rows = [draw_spans(steps, config, np.random.default_rng(steps)) for steps in (60, 90, 200)]
    places = trim(rows)
    assert places.shape == (3, min(map(len, rows))) and places.dtype == torch.int64
    assert bool((places.diff(dim=1) > 0).all())
    for kept, row in zip(places.tolist(), rows, strict=True):
        assert set(kept) <= set(row.tolist())
    assert places[2].max() > 100  # not merely the first ones


def test_distractors_are_other_steps_alike() -> None:
    drawn = draw_distractors(6, 3000, [np.random.default_rng(i) for i in range(2)])
    assert drawn.shape == (2, 6, 3000) and drawn.dtype == torch.int64
    for own in range(6):
        counts = torch.bincount(drawn[:, own].flatten(), minlength=6)
        assert counts[own] == 0
        others = torch.cat([counts[:own], counts[own + 1 :]])
        assert others.min() > 1050 and others.max() < 1350  # 1,200 expected, deviation 31


def test_a_row_draws_for_itself(sound: CollateContext, items: list[Item]) -> None:
    def fresh(which: list[int]) -> list[Item]:
        return [dataclasses.replace(items[i], rng=np.random.default_rng(i)) for i in which]

    made = objective(mask_share=0.5)
    batch = made.collate(fresh([0, 1, 2]), sound)
    steps = WaveExtractor().lengths(batch.source.lengths)
    assert batch.places.shape[0] == 3 and bool((batch.places < steps[:, None]).all())
    assert made.counts(batch) == {
        "examples": 3, "masked": batch.places.numel(), "frames": int(steps.sum()), "batches": 1,
    }  # fmt: skip
    again = made.collate(fresh([0, 1, 2]), sound)
    assert torch.equal(batch.places, again.places)
    assert torch.equal(batch.distractors, again.distractors)
    alone = made.collate(fresh([1]), sound)
    assert set(batch.places[1].tolist()) <= set(alone.places[0].tolist())


def test_long_clips_are_cropped(sound: CollateContext, items: list[Item]) -> None:
    made = objective(crop=9000)
    batch = made.collate(items, sound)
    assert batch.source.lengths.tolist() == [8000, 9000, 9000]
    assert made.size(items[2].example, sound) == Size(frames=56)


def brute_force(
    predicted: Tensor, targets: Tensor, distractors: Tensor, temperature: float
) -> tuple[float, int]:
    loss, correct = 0.0, 0
    for row in range(predicted.shape[0]):
        for step in range(predicted.shape[1]):
            choices = [targets[row, step]]
            for other in distractors[row, step].tolist():
                if not torch.equal(targets[row, other], targets[row, step]):
                    choices.append(targets[row, other])
            scores = torch.stack([
                torch.cosine_similarity(predicted[row, step], choice, dim=0) for choice in choices
            ]) / temperature  # fmt: skip
            loss -= float(scores.log_softmax(0)[0])
            correct += len(choices) > 1 and int(scores.argmax()) == 0
    return loss, correct


def test_info_nce_equals_the_definition() -> None:
    torch.manual_seed(0)
    predicted, table = torch.randn(2, 7, 5).double(), torch.randn(3, 5).double()
    codes = torch.randint(0, 3, (2, 7))
    distractors = draw_distractors(7, 4, [np.random.default_rng(i) for i in range(2)])
    same = contrastive.equal_codes(codes[:, :, None], distractors)
    loss, correct = info_nce(predicted, table[codes], distractors, same, 0.1)
    expected, right = brute_force(predicted, table[codes], distractors, 0.1)
    assert float(loss) == pytest.approx(expected, rel=1e-9) and int(correct) == right
    assert same.any() and not same.all()


def test_losses_are_those_of_transformers() -> None:
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2ForPreTraining

    torch.manual_seed(0)
    predicted, targets = torch.randn(2, 9, 8), torch.randn(2, 9, 8)
    distractors = draw_distractors(9, 6, [np.random.default_rng(i) for i in range(2)])
    same = torch.zeros(distractors.shape, dtype=torch.bool)
    rows = torch.arange(2)[:, None, None]
    logits = Wav2Vec2ForPreTraining.compute_contrastive_logits(
        targets[None], targets[rows, distractors].permute(2, 0, 1, 3), predicted, 0.1
    )
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(1).T, torch.zeros(18, dtype=torch.long), reduction="sum"
    )
    loss, _ = info_nce(predicted, targets, distractors, same, 0.1)
    torch.testing.assert_close(loss, expected)


def test_identical_codes_are_no_negatives_and_no_success() -> None:
    predicted, targets = torch.randn(1, 4, 3), torch.ones(1, 4, 3)
    distractors = draw_distractors(4, 2, [np.random.default_rng(0)])
    same = contrastive.equal_codes(torch.zeros(1, 4, 2, dtype=torch.int64), distractors)
    loss, correct = info_nce(predicted, targets, distractors, same, 0.1)
    assert bool(same.all()) and float(loss) == 0.0 and int(correct) == 0


def test_sums_metrics_and_bounds(sound: CollateContext, items: list[Item]) -> None:
    made, model = objective(), tiny().train()
    batch = made.collate(items, sound)
    sums = made.forward(model, batch, Context(step=1))
    assert {name: (s.per, s.weight) for name, s in sums.items()} == {
        "contrastive": ("masked", 1.0),
        "diversity": ("batches", 0.1),
        "penalty": ("frames", 10.0),
        "accuracy": ("masked", 0.0),
        "duplicates": ("masked", 0.0),
        "code_perplexity": ("batches", 0.0),
        "prob_perplexity": ("batches", 0.0),
    }
    for name in ("code_perplexity", "prob_perplexity"):
        assert 2.0 <= float(sums[name].value.detach()) <= 2 * 16
    assert 0.0 <= float(sums["diversity"].value) < 1.0
    masked = made.counts(batch)["masked"]
    assert 0.0 <= float(sums["duplicates"].value) <= masked
    combine(sums, made.counts(batch)).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


def _rank(rank: int, path: str, probs: Tensor, queue: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}", rank=rank, world_size=2
    )
    own = probs[rank].clone().requires_grad_()
    mean = averaged(own, float(3 * rank + 1))
    # as the training loop has it: divided by both processes' batches, times their number, and
    # the mean of both gradients taken
    (diversity_loss(mean) / 2 * 2).backward()
    queue.put((rank, mean.detach().numpy(), (own.grad / 2).numpy()))
    torch.distributed.destroy_process_group()


def test_diversity_is_of_the_mean_over_processes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    probs = torch.rand(2, 2, 5).softmax(-1)
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=_rank, args=(rank, str(tmp_path / "meet"), probs, queue))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = {rank: (mean, grad) for rank, mean, grad in (queue.get(timeout=60) for _ in range(2))}
    for worker in workers:
        worker.join()
    both = probs.clone().requires_grad_()
    mean = (both[0] * 1 + both[1] * 4) / 5
    diversity_loss(mean).backward()
    for rank in range(2):
        np.testing.assert_allclose(found[rank][0], mean.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(found[rank][1], both.grad[rank].numpy(), rtol=1e-5)


def test_short_clips_are_left_out_and_told(
    sound: CollateContext, example: Callable[..., Example], items: list[Item]
) -> None:
    made = objective(distractors=100)
    reason = made.refuse(example(duration=1.0), Size(frames=100), sound)
    assert reason is not None
    assert reason.startswith("fewer masked steps than distractors: about ")
    assert "of 49 steps for 100 distractors; lower objective.distractors" in reason
    assert made.refuse(example(duration=15.0), Size(frames=1500), sound) is None
    reason = made.refuse(example(duration=0.2), Size(frames=20), sound)
    assert reason == "too short to be masked: 9 steps, spans need 11"
    short = dataclasses.replace(items[0], waveform=torch.zeros(3200))
    with pytest.raises(StkError, match=r"m.jsonl:3: .*has 9 steps, and masks need 11.*min_frames"):
        made.collate([short], sound)
    silent = dataclasses.replace(sound, wave_lengths=None)
    with pytest.raises(StkError, match="needs a model that reads samples .*wav2vec2"):
        made.refuse(example(), Size(frames=100), silent)


def test_collapse_is_told(sound: CollateContext, items: list[Item]) -> None:
    made, model = objective(), tiny().train()
    batch = made.collate(items, sound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.forward(model, batch, Context(step=100))
    model.quantizer.logits.weight.data.zero_()
    model.quantizer.logits.bias.data.view(2, 16)[:, 3] = 100.0
    with pytest.warns(UserWarning, match="codes have collapsed at update 200: code perplexity 2.0"):
        sums = made.forward(model, batch, Context(step=200))
    assert float(sums["duplicates"].value) == batch.places.numel()
    assert float(sums["accuracy"].value) == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.forward(model, batch, Context(step=201))  # not looked at in every update


def test_few_likely_codes_are_told_once_a_validation(
    sound: CollateContext, items: list[Item]
) -> None:
    made, model = objective(), tiny().eval()
    batch = made.collate(items, sound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.forward(model, batch, Context(step=99))
    model.quantizer.logits.weight.data.zero_()  # no noise here: always the same code
    words = r"few codes .* at update 101: 100 % .* code perplexity 2.0 of 32"
    with pytest.warns(UserWarning, match=words) as told:
        made.forward(model, batch, Context(step=101))
        made.forward(model, batch, Context(step=101))
    assert len(told) == 1


def test_one_batch_is_learnt(sound: CollateContext, items: list[Item]) -> None:
    made, model = objective(penalty=0.0), tiny().train()
    batch: ContrastiveBatch = made.collate(items, sound)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    accuracies = []
    for step in range(60):
        sums = made.forward(model, batch, Context(step=step))
        optimizer.zero_grad()
        combine(sums, made.counts(batch)).backward()
        optimizer.step()
        accuracies.append(float(sums["accuracy"].value) / batch.places.numel())
    assert accuracies[0] < 0.4 and np.mean(accuracies[-5:]) > 0.6
    assert math.isfinite(float(sums["contrastive"].value))


def test_a_clip_shorter_than_the_receptive_field(sound: CollateContext, items: list[Item]) -> None:
    short = dataclasses.replace(items[1], waveform=torch.zeros(399))
    with pytest.raises(
        StkError, match="m.jsonl:3: .*'x1' has 399 samples, fewer than .*min_frames"
    ):
        task.collate_source([items[0], short], task.SourceConfig(), sound)
