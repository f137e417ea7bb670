"""What every task and every backbone owes the rest, whoever wrote it: found by listing the configs."""

import json
from dataclasses import fields, replace
from typing import get_type_hints

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROGRESS, ROOT, RUNTIME, composed, sgd, training
from multiprocess import run_together
from vssl.auxiliary.auxskd import PairSampler
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.errors import OptionError
from vssl.pipeline import plan
from vssl.protocol.evaluation import Evaluation
from vssl.stage.callback import Silent
from vssl.stage.construct import Machine, Stage

NOT_ARGUMENTS = ("augmentation", "training", "revision", "input", "repeat")
LENGTHS = (1, 7, 16, 300)
SEEDS = range(20)
BATCH = 8


def choices(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if path.stem != "none")


def built(cfg, group):
    """The object of a config group, as the stages build it."""
    node = OmegaConf.to_container(cfg[group], resolve=True)
    return instantiate({k: v for k, v in node.items() if k not in NOT_ARGUMENTS}, _convert_="all")


@pytest.fixture(params=choices("pretext"))
def config(request):
    return composed(
        f"pretext={request.param}", "auxiliary=auxskd", "auxiliary.queue_size=64", "backbone=tiny"
    )


@pytest.fixture
def sampler(config):
    return built(config, "pretext").sampler


@pytest.fixture
def backbone(config):
    torch.manual_seed(0)
    return built(config, "backbone")


def lengths(sampler):
    return [length for length in LENGTHS if length >= sampler.min_frames]


def batch_of(sampler, cfg):
    """Noise for clips, with the targets of plans for a long video."""
    rng = np.random.default_rng(0)
    plans = [sampler.plan(300, rng) for _ in range(BATCH)]
    size = cfg.backbone.input.crop
    clips, frames = plans[0].frames_KT.shape
    noise = torch.rand(BATCH, clips, 3, frames, size, size, generator=torch.Generator().manual_seed(0)) * 255
    edited = [sampler.edit(clips_KCTHW, rng) for clips_KCTHW in noise]
    added = {name: torch.stack([one[name] for _, one in edited]) for name in edited[0][1]}
    targets = {name: torch.tensor([plan.targets[name] for plan in plans]) for name in sampler.classes}
    clips = torch.stack([clips_KCTHW for clips_KCTHW, _ in edited])
    return {"clips": clips, "label": torch.full((BATCH,), -1), **targets, **added}


def assert_every_number_has_a_range(made):
    hints = get_type_hints(type(made))
    for name in (field.name for field in fields(made) if hints[field.name] in (int, float)):
        with pytest.raises(OptionError) as error:
            replace(made, **{name: -1})
        assert error.value.option == name


def assert_gradients_reach(backbone):
    missed = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missed


def test_every_number_has_a_range_and_an_error_that_names_it(config):
    for group in ("pretext", "auxiliary"):
        task = built(config, group)
        assert_every_number_has_a_range(task)
        assert_every_number_has_a_range(task.sampler)


@pytest.mark.parametrize("choice", ["optimizer=sgd", "optimizer=adamw", "optimizer=lars", "schedule=cosine"])
def test_so_has_every_number_of_a_training(choice):
    group, _, name = choice.partition("=")
    cfg = composed(f"{group}@pretext.training.{group}={name}", "backbone=r3d_18")
    training = instantiate(OmegaConf.to_container(cfg.pretext.training, resolve=True))
    for made in (training, training.optimizer, training.schedule):
        assert_every_number_has_a_range(made)


def test_plans_stay_inside_the_video(sampler):
    assert lengths(sampler)
    for length in lengths(sampler):
        for seed in SEEDS:
            frames_KT = sampler.plan(length, np.random.default_rng(seed)).frames_KT
            assert frames_KT.dtype == np.int64
            assert frames_KT.ndim == 2
            assert frames_KT.min() >= 0
            assert frames_KT.max() < length


def test_clips_of_every_length_are_refused_or_drawn_and_edited(config):
    for frames in (*range(1, 10), 24):
        config.backbone.input.num_frames = frames
        try:
            sampler = built(config, "pretext").sampler
        except InstantiationException as error:
            if isinstance(error.__cause__, OptionError):
                continue
            raise
        for length in (sampler.min_frames, sampler.min_frames + 1, 300):
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                frames_KT = sampler.plan(length, rng).frames_KT
                assert ((frames_KT >= 0) & (frames_KT < length)).all()
                sampler.edit(torch.zeros(len(frames_KT), 3, frames_KT.shape[1], 8, 8).byte(), rng)
                PairSampler(sampler, distinct=True).plan(length, rng)


def test_all_plans_have_the_same_shape(sampler):
    plans = [sampler.plan(n, np.random.default_rng(seed)) for n in lengths(sampler) for seed in SEEDS]
    assert len({plan.frames_KT.shape for plan in plans}) == 1


def test_a_plan_is_a_function_of_the_generator_state(sampler):
    for length in lengths(sampler):
        one, same = (sampler.plan(length, np.random.default_rng(5)) for _ in range(2))
        assert one.frames_KT.tolist() == same.frames_KT.tolist()
        assert one.targets == same.targets
    different = {sampler.plan(300, np.random.default_rng(seed)).frames_KT.tobytes() for seed in SEEDS}
    assert len(different) > 1


def test_so_is_what_it_does_with_the_pixels(sampler):
    shape = sampler.plan(300, np.random.default_rng(0)).frames_KT.shape
    clips = torch.randint(256, (shape[0], 3, shape[1], 32, 32), dtype=torch.uint8)
    before = clips.clone()
    one, same = (sampler.edit(clips, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(clips, before)
    assert torch.equal(one[0], same[0])
    assert (one[0].shape, one[0].dtype) == (clips.shape, torch.uint8)
    assert one[1].keys() == same[1].keys()
    assert all(torch.equal(one[1][name], same[1][name]) for name in one[1])


def test_targets_are_classes(sampler):
    for length in lengths(sampler):
        for seed in SEEDS:
            targets = sampler.plan(length, np.random.default_rng(seed)).targets
            assert set(targets) == set(sampler.classes)
            assert all(0 <= targets[name] < count for name, count in sampler.classes.items())


def test_every_class_occurs(sampler):
    rng = np.random.default_rng(0)
    drawn = [sampler.plan(300, rng).targets for _ in range(400)]
    for name, count in sampler.classes.items():
        assert {targets[name] for targets in drawn} == set(range(count))


def test_pairs_are_two_clips_inside_the_video(sampler):
    for length in lengths(sampler):
        for seed in SEEDS:
            pair = PairSampler(sampler, distinct=True).plan(length, np.random.default_rng(seed))
            assert len(pair.frames_KT) == 2
            assert not pair.targets
            assert pair.frames_KT.min() >= 0
            assert pair.frames_KT.max() < length


def test_pairs_differ_in_every_target(sampler, monkeypatch):
    kind = type(sampler)
    if hasattr(sampler, "pair"):
        pytest.skip(f"{kind.__name__} draws pairs in a way of its own")
    drawn, plan = [], kind.plan
    monkeypatch.setattr(kind, "plan", lambda *args: drawn.append(plan(*args)) or drawn[-1])
    for seed in SEEDS:
        drawn.clear()
        PairSampler(sampler, distinct=True).plan(300, np.random.default_rng(seed))
        first, second = drawn[0].targets, drawn[-1].targets
        assert all(first[name] != second[name] for name, count in sampler.classes.items() if count > 1)


def test_pretext_trains_the_whole_backbone(config, sampler, backbone):
    objective = built(config, "pretext").objective(backbone).train()
    assert objective.backbone is backbone
    batch = batch_of(sampler, config)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        output = objective(batch)
        output.loss.backward()
        assert_gradients_reach(backbone)
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0]
    # Not in between: a queue that fills with the keys of one and the same batch makes its task harder.
    objective.after_step(PROGRESS)


def test_metrics_are_plain_numbers(config, sampler, backbone):
    output = built(config, "pretext").objective(backbone).train()(batch_of(sampler, config))
    assert output.loss.shape == ()
    assert output.metrics
    for value in output.metrics.values():
        assert value.shape == ()
        assert not value.requires_grad


def test_what_guessing_comes_to_is_known_of_every_accuracy(config, sampler, backbone):
    for group in ("pretext", "auxiliary"):
        task = built(config, group)
        metrics = task.objective(backbone).train()(batch_of(task.sampler, config)).metrics
        references = task.references()
        assert set(references) <= set(metrics)
        assert {name for name in metrics if "accuracy" in name} <= set(references)
        for name, values in references.items():
            if "accuracy" in name:
                assert 0 < values["chance"] <= values.get("reachable", 1) <= 1


def test_auxskd_trains_the_whole_backbone_on_the_clips_of_every_pretext(config, backbone):
    task = built(config, "auxiliary")
    objective = task.objective(backbone).train()
    loss = objective(batch_of(task.sampler, config)).loss
    assert torch.isfinite(loss)
    loss.backward()
    assert_gradients_reach(backbone)


def batches(sampler, cfg, steps):
    """The micro-batches of this process: noise and targets of each sample."""
    whole = batch_of(sampler, cfg)
    for step in range(steps.total):
        numbers = [torch.tensor([index for _, index in samples]) for samples in steps.mine(step)]
        yield [{**{name: values[n] for name, values in whole.items()}, "index": n} for n in numbers]


def trained_state(name, folder):
    """The state of an objective after two steps, each of two micro-batches of two samples."""
    cfg = composed(f"pretext={name}", "auxiliary=none", "backbone=tiny")
    torch.manual_seed(0)
    task = built(cfg, "pretext")
    recipe = training(epochs=1, optimizer=sgd(lr=0.01), drop_last=True)
    objective = task.objective(built(cfg, "backbone")).double()
    steps = Steps(BATCH, recipe, seed=3)
    loop = Loop(objective, steps, 1, lambda batch: batch["clips"].double(), folder, RUNTIME, Silent())
    loop.run(batches(task.sampler, cfg, steps))
    return objective.state_dict()


@pytest.mark.parametrize("name", choices("pretext"))
def test_two_processes_train_as_one(name, tmp_path):
    """To the rounding of sums: weights, queues and what else is remembered. Running statistics are means over
    processes instead of over micro-batches."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    alone = trained_state(name, folders[0])
    together = run_together(trained_state, name, folders[1])
    for key, value in alone.items():
        if "running_" not in key and "num_batches_tracked" not in key:
            torch.testing.assert_close(together[0][key], together[1][key], rtol=0, atol=0, msg=key)
            torch.testing.assert_close(together[0][key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", choices("backbone"))
def test_backbones_return_one_vector_and_one_map_per_clip_of_their_own_size(name):
    """On the meta device, where only shapes are worked out."""
    cfg = composed(f"backbone={name}")
    clip = cfg.backbone.input
    with torch.device("meta"):
        backbone = built(cfg, "backbone").train()
        clips_BCTHW = torch.empty(2, 3, clip.num_frames, clip.crop, clip.crop)
        features_BD, map_BDTHW = backbone(clips_BCTHW), backbone.feature_map(clips_BCTHW)
    assert features_BD.shape == (2, backbone.feature_dim)
    assert map_BDTHW.shape[:2] == features_BD.shape
    assert map_BDTHW.dim() == 5


@pytest.mark.parametrize("name", choices("protocol"))
def test_protocols_declare_metrics_of_different_names_and_one_headline(name):
    *_, test = plan(composed(f"protocol={name}", "auxiliary=none"))
    Stage(test).check(Machine())
    protocol = Stage(test).task
    assert isinstance(protocol, Evaluation)
    names = [metric.name for metric in protocol.metrics]
    assert len(set(names)) == len(names)
    assert len([metric for metric in protocol.metrics if metric.headline]) == 1
    assert protocol.facts()
    json.dumps(protocol.facts())
