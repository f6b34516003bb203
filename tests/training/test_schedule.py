"""Schedules against transformers' implementations and at named points."""

import math

import pytest
import torch
import transformers

from stk.config.run import ScheduleConfig
from stk.training.schedule import factor, interpolate, scalars_at


def lambda_of(make, *args, **kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return make(optimizer, *args, **kwargs).lr_lambdas[0]


@pytest.mark.parametrize("update", [1, 9, 10, 11, 40, 99, 100, 150])
def test_equal_to_transformers(update):
    cosine = ScheduleConfig(name="cosine", warmup=10, total=100)
    theirs = lambda_of(transformers.get_cosine_schedule_with_warmup, 10, 100)
    assert factor(cosine, min(update, 100)) == pytest.approx(theirs(min(update, 100)), abs=1e-12)
    polynomial = ScheduleConfig(name="polynomial", warmup=10, total=100, power=2.0, final=0.1)
    theirs = lambda_of(
        transformers.get_polynomial_decay_schedule_with_warmup, 10, 100, lr_end=0.1, power=2.0
    )
    assert factor(polynomial, update) == pytest.approx(theirs(update), abs=1e-12)
    inverse = ScheduleConfig(name="inverse_sqrt", warmup=10)
    theirs = lambda_of(transformers.get_inverse_sqrt_schedule, 10)
    assert factor(inverse, update) == pytest.approx(theirs(update), abs=1e-12)
    constant = ScheduleConfig(name="constant", warmup=10)
    theirs = lambda_of(transformers.get_constant_schedule_with_warmup, 10)
    assert factor(constant, update) == pytest.approx(theirs(update), abs=1e-12)


def test_noam_as_in_the_paper():
    config = ScheduleConfig(name="noam", warmup=4000, width=512)
    for update in (1, 100, 4000, 4001, 100_000):
        paper = 512**-0.5 * min(update**-0.5, update * 4000**-1.5)
        assert factor(config, update) == pytest.approx(paper)
    peak = (512 * 4000) ** -0.5
    assert factor(config, 4000) == pytest.approx(peak)
    inverse = ScheduleConfig(name="inverse_sqrt", warmup=4000)
    assert factor(config, 777) / peak == pytest.approx(factor(inverse, 777))


def test_tri_stage_points():
    config = ScheduleConfig(
        name="tri_stage", total=1000, stages=(0.1, 0.4, 0.5), initial=0.01, final=0.05
    )
    assert factor(config, 50) == pytest.approx(0.01 + 0.99 * 0.5)
    assert factor(config, 100) == factor(config, 499) == 1.0
    assert factor(config, 750) == pytest.approx(math.sqrt(0.05))
    assert factor(config, 1000) == factor(config, 5000) == pytest.approx(0.05)


def test_initial_and_final():
    warm = ScheduleConfig(name="constant", warmup=10, initial=0.5)
    assert factor(warm, 5) == pytest.approx(0.75)
    cosine = ScheduleConfig(name="cosine", warmup=0, total=10, final=0.2)
    assert factor(cosine, 10) == factor(cosine, 99) == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["inverse_sqrt", "constant", "cosine", "polynomial"])
def test_never_above_the_peak(name):
    config = ScheduleConfig(name=name, warmup=20, total=200)
    values = [factor(config, update) for update in range(1, 250)]
    assert max(values) <= 1.0 + 1e-12 and min(values) >= 0.0


def test_interpolate_ctnmt_rate():
    points = ((0, 0.0), (10000, 1.0), (20000, 0.0))
    values = [interpolate(points, t) for t in (0, 5000, 10000, 15000, 20000, 99999)]
    assert values == [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    assert scalars_at({"tau": ((10, 2.0), (20, 0.5))}, 1) == {"tau": 2.0}


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "cosine", "warmup": 1},
        {"name": "noam", "warmup": 10},
        {"name": "tri_stage", "total": 10},
        {"name": "tri_stage", "total": 10, "final": 0.1, "stages": (0.5, 0.4, 0.5)},
        {"name": "polynomial", "warmup": 10, "total": 10},
        {"name": "inverse_sqrt", "warmup": 0},
    ],
)
def test_refused(keys):
    with pytest.raises(ValueError):
        ScheduleConfig(**keys)
