"""Small pipelines for tests: the default config cut down to seconds."""

import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from unittest.mock import patch

# Tests are of the CPU wherever they run: their numbers are its, and processes that fork do not survive a GPU.
# Those in tests/gpu are of the device that this names: cuda, or cpu to see that they run.
if "VSSL_TEST_DEVICE" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from vssl.data.augmentation import Augmentation
from vssl.data.index import Index, pack_names
from vssl.data.operations.crop import RandomCrop
from vssl.data.operations.flip import Flip
from vssl.data.operations.grey import Grey
from vssl.data.operations.jitter import ColorJitter
from vssl.engine.cost import CostMeter
from vssl.engine.loader import evaluation_batches
from vssl.engine.optimizers import SGD
from vssl.engine.runtime import Runtime
from vssl.engine.schedules import StepDecay
from vssl.engine.training import Training
from vssl.pipeline import merge, plan
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage
from vssl.stage.context import Context
from vssl.stage.features import describe
from vssl.stage.monitor import Monitoring
from vssl.stage.run import run_stage
from vssl.stage.store import StageStore
from vssl.types import Progress

ROOT = Path(__file__).parent.parent

EXTRA = Path(os.environ["VSSL_TEST_VIDEOS"]) if "VSSL_TEST_VIDEOS" in os.environ else None
"""Real videos and official lists, which are not part of the project."""
needs_extra = pytest.mark.skipif(EXTRA is None, reason="VSSL_TEST_VIDEOS names no folder of real videos")

SMALL = [
    "source.num_videos=16",
    "downstream.train.num_videos=16",
    "downstream.test.num_videos=8",
    "auxiliary.queue_size=20",
    "auxiliary.training.epochs=2",
    "auxiliary.training.batch_size=8",
    "pretext.training.epochs=2",
    "pretext.training.batch_size=8",
    "protocol.training.epochs=2",
    "protocol.training.batch_size=8",
    "runtime.workers=0",
    "runtime.threads=1",
    "runtime.log_every_steps=1",
    "tracking=jsonl",
]


PRETEXTS = sorted(path.stem for path in (ROOT / "conf" / "pretext").glob("*.yaml") if path.stem != "none")

RUNTIME = Runtime(
    device="cpu",
    workers=0,
    threads=1,
    channels_last=False,
    compile=False,
    deterministic=False,
    save_every_s=60.0,
    log_every_steps=1,
    max_bad_share=0.0,
    timeout_s=60.0,
)


def augmentation(pixel_max=255.0, mean=None, std=None, **changes):
    """The published one on small frames, with other operations by name."""
    operations = {
        "crop": RandomCrop([24, 32], 24),
        "flip": Flip(0.5),
        "grey": Grey(0.0),
        "jitter": ColorJitter(0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, per="frame"),
    }
    return Augmentation(pixel_max, mean, std, **{**operations, **changes})


PROGRESS = Progress(epochs=1.0, share=0.5)


def sgd(**changes):
    """SGD with momentum and nothing else."""
    values = {"weight_decay": 0.0, "momentum": 0.9, "decay_norm_and_bias": True, "clip_norm": None}
    return SGD(**{**values, **changes})


def step_decay(**changes):
    """A factor that is 1 throughout, and no warm-up."""
    values = {"every_epochs": 1, "factor": 1.0, "per": "epoch", "warmup_epochs": 0, "warmup_factor": 0.0}
    return StepDecay(**{**values, **changes})


NO_LOOKS = Monitoring(0, 2, 1, 1, 1.0, 1, None)


def training(**changes):
    """A short recipe in float32: constant SGD, steps of four samples in micro-batches of two."""
    values = {
        "epochs": 3,
        "batch_size": 4,
        "micro_batch": 2,
        "drop_last": False,
        "sync_bn": False,
        "precision": "float32",
        "optimizer": sgd(lr=0.1),
        "schedule": step_decay(),
    }
    return Training(**{**values, **changes})


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Overrides that make all tests share one copy of the synthetic videos."""
    root = tmp_path_factory.mktemp("data")
    return [f"{node}.root={root}" for node in ("source", "downstream.train", "downstream.test")]


def composed(*overrides):
    """The config of `python launch.py *overrides`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=fitting(overrides))


@cache
def configs(*words):
    """The configs of all points of `python launch.py -m *words`, through the sweeper and the launcher."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.config_loader.load_configuration("config", list(words), RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=None)
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=lambda _: None, config=config
        )
        with patch("vssl.commands.execute") as execute:
            sweeper.sweep(list(config.hydra.overrides.task))
    return [cfg for cfg, _ in execute.call_args[0][0]]


def fitting(overrides):
    """Without the values of `SMALL` for a stage that there is not."""
    absent = [f"{line.removesuffix('=none')}." for line in overrides if line == "auxiliary=none"]
    return [line for line in overrides if line not in SMALL or not line.startswith(tuple(absent))]


@pytest.fixture
def stage(data):
    """Builds the stage of a name from overrides of a small pipeline."""

    def build(name, *overrides):
        chain = plan(composed(*SMALL, *data, *overrides))
        return Stage(next(spec for spec in chain if spec.name == name))

    return build


@pytest.fixture(autouse=True, scope="session")
def _hears_ctrl_c():
    """Tests send it, to themselves too; what a shell starts in the background ignores it, and so does all
    that comes of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def launch(tmp_path, data):
    """Run `python launch.py` with a small pipeline in a process of its own; returns the finished process."""

    def run(*overrides, small=True, cwd=ROOT, **options):
        return subprocess.run(
            command(tmp_path, data, *overrides, small=small),
            cwd=cwd,
            env=environment(),
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data):
    """A small store, and the chain of stages of each protocol in it: one pretext, judged in all four ways."""
    outputs = tmp_path_factory.mktemp("finished")
    base = [f"outputs={outputs}", "auxiliary=none", "protocol.test.sampler.num_clips=2"]
    chains = {
        name: plan(composed(*SMALL, *data, *base, f"protocol={name}")) for name in ("finetune", "linear")
    }
    small = [line for line in SMALL if not line.startswith("protocol")]
    for name in ("retrieval", "knn"):
        overrides = [*small, *data, *base[:2], f"protocol={name}", "features.sampler.num_clips=2"]
        chains[name] = plan(composed(*overrides))
    context = context_in(outputs)
    for spec in merge(chains.values()):
        context.store.folder(spec).mkdir(parents=True)
        with context.store.claim(spec):
            run_stage(spec, context)
    return context.store, chains


def context_in(outputs, runtime=RUNTIME, make_callback=lambda spec: Silent(), monitoring=NO_LOOKS):
    """What stages of a test run in."""
    return Context(StageStore(outputs), runtime, make_callback, print, {}, monitoring)


def command(outputs, data, *overrides, small=True):
    """The command line of a small pipeline."""
    settings = [*SMALL, *data] if small else []
    words = fitting([*settings, f"outputs={outputs}", *overrides])
    return [sys.executable, str(ROOT / "launch.py"), *words]


def start(is_far_enough, outputs, data, *overrides):
    """A launch in a process group of its own, once it is far enough, or over; its words are on stdout."""
    process = subprocess.Popen(
        command(outputs, data, *overrides),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and not is_far_enough():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def interrupted_when_starting(monkeypatch):
    """Ctrl-C comes while a process is being started, each time; returns those that were."""
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    return started


def environment():
    """One thread: tests run beside others."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def planted_index(num_files, names=None):
    """An index of fine files, all for training, of two classes and 300 frames each."""
    blob, offsets = pack_names(names or [f"{n}.mp4" for n in range(num_files)])
    word = {"codec": b"h264", "verdict": b"ok", "decoder": b"decord"}
    number = {"frames": 300, "width": 340, "height": 256}
    return Index(
        classes=["one", "two"],
        names=blob,
        offsets=offsets,
        size=np.zeros(num_files, np.int64),
        label=np.arange(num_files, dtype=np.int32) % 2,
        fps=np.full(num_files, 25, np.float32),
        digest=np.random.default_rng(0).integers(0, 256, (num_files, 16), np.uint8),
        subsets=np.ones((2, num_files), np.uint8),
        **{name: np.full(num_files, value, "S32") for name, value in word.items()},
        **{name: np.full(num_files, value, np.int32) for name, value in number.items()},
    )


def described(dataset, features, backbone, batch_size, runtime):
    """Features and labels of all videos, as the stages gallery and queries make them."""
    cost = CostMeter(runtime.torch_device())
    batches = evaluation_batches(dataset, batch_size, runtime.loading(), cost)
    return describe(batches, dataset.augmentation, features, backbone, runtime, lambda clips: None)
