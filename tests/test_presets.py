"""Every value of every preset, against the papers and the released codes.

A preset is what `experiment=` makes of a stage: `standard` (nothing said), `as_paper` and `as_released`. The
nodes are compared whole, so that a value that nobody thought of fails here too. Sources are named as

    paper: the auxSKD paper, section 4.2 unless said otherwise
    aux, vspp: its released code, auxSKD/train.py and VSPP/train.py with their datasets/ucf101.py
    pace: VideoPace's train.py, datasets/ucf101.py and README
    vcop: VCOP's train_vcop.py, ft_classify.py, train_classify.py and datasets/ucf101.py
    rsp: RSPNet's config/pretrain, config/finetune, datasets/classification and README
    here: nobody says; the choice of this project
"""

from itertools import product

import pytest

from conftest import composed
from vssl.commands.plan import plan
from vssl.pipeline import plain

EXPERIMENTS = ("standard", "as_paper", "as_released")
PRETEXTS = ("vspp", "vcop", "videopace", "rspnet")


def node(group, experiment, *choices):
    """The resolved node of a group, without the names of classes and revisions."""
    chosen = [] if experiment == "standard" else [f"experiment={experiment}"]
    return values(plain(composed("source=kinetics100", *chosen, *choices)[group]))


def every(*axes):
    return list(product(*axes))


def values(given):
    if not isinstance(given, dict):
        return given
    return {name: values(one) for name, one in given.items() if name not in ("_target_", "revision")}


# Parts that several recipes have in common.


def sgd(lr, weight_decay):
    """All of them: momentum 0.9, weight decay of all parameters, nothing clipped."""
    return {
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": 0.9,
        "decay_norm_and_bias": True,
        "clip_norm": None,
    }


def _schedule(**shape):
    """Nobody warms up, and the learning rate changes between epochs."""
    return {**shape, "per": "epoch", "warmup_epochs": 0, "warmup_factor": 0.0}


STEPS = _schedule(every_epochs=6, factor=0.1)  # paper; aux, vspp, pace: StepLR(6, 0.1)
CONSTANT = _schedule(every_epochs=6, factor=1.0)  # vcop: its plateau scheduler is never stepped
COSINE = _schedule(final_factor=1e-3)  # rsp: eta_min = lr / 1000
MULTI_STEP = _schedule(milestones=[50, 70, 90], factor=0.1)  # rsp: two configs of fine-tuning on HMDB51


def training(epochs, batch, micro, drop_last, optimizer, schedule):
    """batch: videos of a step; micro: those that batch norm sees, one GPU's. Nobody synchronises batch norm,
    or computes in half precision."""
    return {
        "epochs": epochs,
        "batch_size": batch,
        "micro_batch": micro,
        "drop_last": drop_last,
        "sync_bn": False,
        "precision": "float32",
        "optimizer": optimizer,
        "schedule": schedule,
    }


GREY_LEVELS = {"pixel_max": 255.0, "mean": None, "std": None}  # aux, vspp, pace
SHARES = {"pixel_max": 1.0, "mean": None, "std": None}  # vcop: ToTensor
IMAGENET = {"pixel_max": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # rsp
PIXELS = {"vspp": GREY_LEVELS, "videopace": GREY_LEVELS, "vcop": SHARES, "rspnet": IMAGENET}

SMALL = {"resize": [128, 171], "size": 112}  # all of them for 16 frames
LARGE = {"resize": [256, 256], "size": 224}  # pace: S3D-G; rsp: S3D-G 224


def frame_jitter(frame=SMALL):
    """paper: crop, flip and jitter of each frame; the numbers: aux, vspp, pace."""
    jitter = {
        "probability": 0.8,
        **{"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
        "per": "frame",
    }
    return {
        "crop": frame,
        "flip": {"probability": 0.5},
        "grey": {"probability": 0.0},
        "jitter": jitter,
        **GREY_LEVELS,
    }


CROP = {"crop": SMALL, "flip": {"probability": 0.0}, "grey": {"probability": 0.0}, **SHARES}  # vcop


def rspnet_augmentation(frame=SMALL):
    """rsp: get_transform_vid."""
    jitter = {
        "probability": 1.0,
        **{"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4},
        "per": "clip",
    }
    return {
        "crop": {**frame, "area": [0.4, 1.0]},
        "flip": {"probability": 0.5},
        "grey": {"probability": 0.2},
        "jitter": jitter,
        **IMAGENET,
    }


AUGMENTATION = {
    "vspp": frame_jitter(),
    "videopace": frame_jitter(),
    "vcop": CROP,
    "rspnet": rspnet_augmentation(),
}

# The clips of the pretexts.

VSPP_CLIPS = {
    "num_frames": 16,  # vspp; the paper does not say
    "num_segments": 4,  # paper 3.2; vspp
    "max_speed": 4,  # paper 3.2; vspp
    "variant": "released",  # as_paper: eq4
    "start": "inside",  # vspp: 1 to n - 16
    "out_of_bounds": "loop",  # vspp
    "wrap_lookahead": 1,  # vspp; aux: 3
}
VCOP_CLIPS = {"num_clips": 3, "num_frames": 16, "gap": 8}  # vcop
VIDEOPACE_CLIPS = {
    "num_frames": 16,
    "num_clips": 1,
    "max_pace": 4,
    "start": "anywhere",  # pace: 1 to n
    "out_of_bounds": "loop",
    "pair_start": "inside",  # aux: a compiled sampler of two clips that was left behind
    "pair_distinct": False,  # the same
}
RSPNET_CLIPS = {"num_frames": 16, "num_clips": 2, "relative_speed": 2, "out_of_bounds": "loop"}  # rsp
CLIPS = {"vspp": VSPP_CLIPS, "vcop": VCOP_CLIPS, "videopace": VIDEOPACE_CLIPS, "rspnet": RSPNET_CLIPS}

# The auxiliary stage, but for its clips.

PAIR = {
    "standard": {"distinct": True},  # aux
    "as_paper": {"distinct": False},  # paper 3.1: "two video clips, independently"
    "as_released": {"distinct": True},  # aux: both speed and segment are drawn until they differ
}
AUXSKD = {
    "standard": {
        "projection_dim": 128,  # paper; aux
        "predictor_layers": 2,  # aux
        "predictor_hidden": 1024,  # paper; aux
        "queue_size": 16384,  # paper
        "queue_init": "rows",  # here: unit vectors, as the paper's similarity takes them
        "momentum": 0.999,  # paper; aux
        "teacher_temperature": 0.02,  # paper; aux
        "student_temperature": 0.02,  # paper, and best in its Table 3
        "shuffle_bn": False,  # aux has it; it needs several processes
        "repeat": 1,  # on K-100; see REPEATS
        "training": training(
            20, 30, 30, True, sgd(1e-3, 5e-4), STEPS
        ),  # paper; drop_last: aux; one GPU: here
    },
    "as_paper": {
        "projection_dim": 128,
        "predictor_layers": 3,  # paper: "3-layer MLP"
        "predictor_hidden": 1024,
        "queue_size": 16384,
        "queue_init": "rows",  # here, as the paper is silent
        "momentum": 0.999,
        "teacher_temperature": 0.02,
        "student_temperature": 0.02,
        "shuffle_bn": False,
        "repeat": 1,
        "training": training(20, 30, 15, True, sgd(1e-3, 5e-4), STEPS),  # two GPUs
    },
    "as_released": {
        "projection_dim": 128,
        "predictor_layers": 2,
        "predictor_hidden": 1024,
        "queue_size": 15360,  # aux: 512 x 30
        "queue_init": "columns",  # aux: normalised over the keys
        "momentum": 0.999,
        "teacher_temperature": 0.02,
        "student_temperature": 0.1,  # aux: written into forward
        "shuffle_bn": False,
        "repeat": 1,  # aux; 10 on VideoPace's clips
        "training": training(25, 30, 15, True, sgd(1e-3, 5e-3), STEPS),  # aux; README: two GPUs
    },
}


def auxiliary_clips(experiment, pretext):
    """Those of the pretext; VSPP's by Eq. 4, or with the released stage's own end of a video."""
    if pretext == "vspp" and experiment == "as_paper":
        return {**VSPP_CLIPS, "variant": "eq4"}
    if pretext == "vspp" and experiment == "as_released":
        return {**VSPP_CLIPS, "wrap_lookahead": 3}
    return CLIPS[pretext]


def auxiliary_augmentation(experiment, pretext):
    """The pretext's; in as_paper crop, flip and jitter for all, in the pretext's range of pixels."""
    if experiment == "as_paper" and pretext in ("vcop", "rspnet"):
        jittered = {name: one for name, one in frame_jitter().items() if name != "grey"}
        return {**jittered, **PIXELS[pretext]}
    return AUGMENTATION[pretext]


@pytest.mark.parametrize(("experiment", "pretext"), every(EXPERIMENTS, PRETEXTS))
def test_the_auxiliary_stage(experiment, pretext):
    expected = AUXSKD[experiment] | {
        "sampler": {"sampler": auxiliary_clips(experiment, pretext), **PAIR[experiment]},
        "augmentation": auxiliary_augmentation(experiment, pretext),
    }
    if (experiment, pretext) == ("as_released", "videopace"):
        expected["repeat"] = 10  # aux: the compiled sampler repeats its list
    assert node("auxiliary", experiment, "backbone=r2plus1d_10", f"pretext={pretext}") == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_auxiliary_stage_alone_is_that_of_vspp(experiment):
    alone, with_vspp = (
        node("auxiliary", experiment, "backbone=r2plus1d_10", f"pretext={name}") for name in ("none", "vspp")
    )
    assert alone == with_vspp


# The pretext stage.

VSPP = {
    "sampler": VSPP_CLIPS,
    "speed_weight": 1.0,  # paper 3.2, Eq. 5; vspp
    "segment_weight": 1.0,
    "mask_segment_at_natural_speed": False,
    "augmentation": frame_jitter(),
}
VCOP = {"sampler": VCOP_CLIPS, "pair_dim": 512, "dropout": 0.5, "repeat": 1, "augmentation": CROP}  # vcop
VIDEOPACE = {
    "sampler": VIDEOPACE_CLIPS,
    "pace_weight": 1.0,
    "contrastive": "none",  # pace: the released code has no more
    "contrastive_weight": 0.1,  # VideoPace's paper; without effect here
    "projection_dim": 128,  # here; without effect
    "temperature": 0.07,  # here; without effect
    "augmentation": frame_jitter(),
}
RSPNET = {
    "sampler": RSPNET_CLIPS,
    "embedding_dim": 128,
    "queue_size": 16384,
    "momentum": 0.999,
    "temperature": 0.07,
    "margin": 2.0,
    "appearance_weight": 1.0,
    "motion_weight": 1.0,
    "enqueue": "other_speed",  # rsp
    "key_init": "random",  # paper 4.3; alone it makes no difference
    "repeat": 1,
    "shuffle_bn": False,  # rsp has it; it needs several processes
    "augmentation": rspnet_augmentation(),
}
PRETEXT = {
    "standard": {
        "vspp": VSPP
        | {"training": training(20, 30, 30, False, sgd(1e-3, 5e-4), STEPS)},  # paper; drop_last: vspp
        "vcop": VCOP | {"training": training(300, 8, 8, False, sgd(1e-3, 5e-4), CONSTANT)},  # vcop
        "videopace": VIDEOPACE | {"training": training(18, 30, 30, False, sgd(1e-3, 5e-3), STEPS)},  # pace
        "rspnet": RSPNET | {"training": training(200, 128, 32, True, sgd(0.1, 1e-4), COSINE)},  # rsp: 4 GPUs
    },
    # paper: all with batches of 30 on two GPUs and weight decay 5e-4; epochs: its Table 1
    "as_paper": {
        "vspp": VSPP
        | {"sampler": {**VSPP_CLIPS, "variant": "eq4"}}
        | {"training": training(20, 30, 15, False, sgd(1e-3, 5e-4), STEPS)},
        "vcop": VCOP | {"training": training(200, 30, 15, False, sgd(1e-3, 5e-4), CONSTANT)},
        "videopace": VIDEOPACE | {"training": training(18, 30, 15, False, sgd(1e-3, 5e-4), STEPS)},
        # rsp: lr = 0.05 x 30 / 64
        "rspnet": RSPNET | {"training": training(200, 30, 15, True, sgd(0.0234, 5e-4), COSINE)},
    },
    "as_released": {
        # vspp, pace: the list of videos ten times over; VSPP on two GPUs, VideoPace on one
        "vspp": VSPP | {"repeat": 10, "training": training(20, 30, 15, False, sgd(1e-3, 5e-3), STEPS)},
        "vcop": VCOP | {"training": training(300, 8, 8, False, sgd(1e-3, 5e-4), CONSTANT)},
        "videopace": VIDEOPACE
        | {"repeat": 10, "training": training(18, 30, 30, False, sgd(1e-3, 5e-3), STEPS)},
        "rspnet": RSPNET | {"training": training(200, 128, 32, True, sgd(0.1, 1e-4), COSINE)},
    },
}


@pytest.mark.parametrize("auxiliary", ["auxskd", "none"])
@pytest.mark.parametrize(("experiment", "pretext"), every(EXPERIMENTS, PRETEXTS))
def test_the_pretext_stage_alone_and_after_auxskd(experiment, pretext, auxiliary):
    choices = ["backbone=r2plus1d_10", f"pretext={pretext}", f"auxiliary={auxiliary}"]
    assert node("pretext", experiment, *choices) == PRETEXT[experiment][pretext]


@pytest.mark.parametrize(("experiment", "pretext"), every(EXPERIMENTS, PRETEXTS))
def test_r3d_trains_as_r2plus1d(experiment, pretext):
    """paper; pace, vcop: one recipe for both. RSPNet has none for this net."""
    assert (
        node("pretext", experiment, "backbone=r3d_10", f"pretext={pretext}") == PRETEXT[experiment][pretext]
    )


# rsp: batches of 4 GPUs, lr = base lr x batch / 64
RSPNET_NETS = {
    "c3d": training(200, 128, 32, True, sgd(0.2, 1e-4), COSINE),  # 32 per GPU, base lr 0.1
    "resnet3d_18": training(200, 256, 64, True, sgd(0.4, 1e-4), COSINE),  # 64, 0.1
    "s3d_g": training(200, 256, 64, True, sgd(0.2, 1e-4), COSINE),  # 64, 0.05
}
RSPNET_NETS_AS_PAPER = {
    "c3d": training(200, 30, 15, True, sgd(0.0469, 5e-4), COSINE),
    "resnet3d_18": training(200, 30, 15, True, sgd(0.0469, 5e-4), COSINE),
    "s3d_g": training(200, 30, 15, True, sgd(0.0234, 5e-4), COSINE),
}


@pytest.mark.parametrize(("experiment", "backbone"), every(EXPERIMENTS, RSPNET_NETS))
def test_rspnet_on_its_other_nets(experiment, backbone):
    nets = RSPNET_NETS_AS_PAPER if experiment == "as_paper" else RSPNET_NETS
    augmentation = rspnet_augmentation(LARGE if backbone == "s3d_g" else SMALL)  # rsp: clips of 16 x 224
    expected = RSPNET | {"training": nets[backbone], "augmentation": augmentation}
    assert node("pretext", experiment, "pretext=rspnet", f"backbone={backbone}") == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_videopace_on_s3d_g(experiment):
    """pace: 64 frames, batches of 32 on four GPUs."""
    published = training(18, 32, 8, False, sgd(1e-3, 5e-3), STEPS)
    as_paper = training(18, 30, 15, False, sgd(1e-3, 5e-4), STEPS)
    expected = PRETEXT[experiment]["videopace"] | {
        "sampler": {**VIDEOPACE_CLIPS, "num_frames": 64},
        "augmentation": frame_jitter(LARGE),
        "training": as_paper if experiment == "as_paper" else published,
    }
    assert node("pretext", experiment, "pretext=videopace", "backbone=s3d_g") == expected


# Fine-tuning and test.


def fine_tuning(classes, repeat, augmentation, recipe, average, frames=16, clips=10, frame=SMALL):
    """All of them: random clips at natural pace, then evenly spaced clips of each test video, centre crop."""
    pixels = {name: augmentation[name] for name in GREY_LEVELS}
    return {
        "stage": "finetune",
        "choose": None,  # nothing: all values are said
        "held_out": 0.25,
        "tested_on": "test",
        "num_classes": classes,
        "repeat": repeat,
        "sampler": {"num_frames": frames, "out_of_bounds": "loop"},
        "augmentation": augmentation,
        "training": recipe,
        "test": {
            "sampler": {"num_frames": frames, "num_clips": clips, "out_of_bounds": "loop"},
            "augmentation": {"crop": frame, **pixels},
            "average": average,
            "batch_size": 6,  # no part of the method
        },
    }


CLASSES = {"ucf101": 101, "hmdb51": 51}

FINETUNE = {  # paper: 25 epochs, lr 3e-3, else as in pretraining; softmax averaged
    "standard": training(25, 30, 30, False, sgd(3e-3, 5e-4), STEPS),  # one GPU: here
    "as_paper": training(25, 30, 15, False, sgd(3e-3, 5e-4), STEPS),
    "as_released": training(
        25, 30, 15, False, sgd(3e-3, 5e-3), STEPS
    ),  # not released; weight decay: aux, vspp
}


@pytest.mark.parametrize(("experiment", "pretext", "data"), every(EXPERIMENTS, PRETEXTS, CLASSES))
def test_fine_tuning_of_the_paper(experiment, pretext, data):
    """UCF101 counts ten times, as in pretraining. The range of pixels is that of the pretext."""
    choices = ["backbone=r2plus1d_10", f"pretext={pretext}", f"downstream={data}"]
    repeat = 10 if data == "ucf101" else 1
    augmentation = {**frame_jitter(), **PIXELS[pretext]}
    expected = fine_tuning(CLASSES[data], repeat, augmentation, FINETUNE[experiment], "softmax")
    assert node("protocol", experiment, *choices) == expected


@pytest.mark.parametrize(("experiment", "data"), every(EXPERIMENTS, CLASSES))
def test_fine_tuning_of_vcop(experiment, data):
    """vcop: ft_classify.py; both of its learning rates are 1e-3; logits averaged."""
    choices = ["backbone=r2plus1d_10", "pretext=vcop", "protocol=finetune_vcop", f"downstream={data}"]
    recipe = training(150, 8, 8, False, sgd(1e-3, 5e-4), CONSTANT)
    assert node("protocol", experiment, *choices) == fine_tuning(CLASSES[data], 1, CROP, recipe, "logits")


FINETUNE_RSPNET = {  # rsp: videos per GPU x 2 GPUs; the learning rate is not scaled; whole batches only
    ("r2plus1d_10", "ucf101"): training(
        30, 32, 8, True, sgd(0.1, 1e-4), COSINE
    ),  # 8 x 4: their re-run, issue 3
    ("r2plus1d_10", "hmdb51"): training(30, 32, 16, True, sgd(0.1, 1e-4), COSINE),
    ("resnet3d_18", "ucf101"): training(30, 64, 32, True, sgd(0.1, 1e-4), COSINE),
    ("resnet3d_18", "hmdb51"): training(30, 128, 64, True, sgd(0.01, 1e-4), MULTI_STEP),
    ("c3d", "ucf101"): training(30, 40, 20, True, sgd(0.005, 1e-4), COSINE),
    ("c3d", "hmdb51"): training(100, 12, 6, True, sgd(0.005, 1e-4), MULTI_STEP),
    ("s3d_g", "ucf101"): training(50, 8, 4, True, sgd(0.005, 1e-4), COSINE),
    ("s3d_g", "hmdb51"): training(50, 8, 4, True, sgd(0.005, 1e-4), COSINE),
}


@pytest.mark.parametrize(("experiment", "case"), every(EXPERIMENTS, FINETUNE_RSPNET), ids=str)
def test_fine_tuning_of_rspnet(experiment, case):
    """rsp: default.libsonnet: area 0.25 to 1, no grey, no jitter, 10 test clips, logits averaged."""
    backbone, data = case
    choices = [f"backbone={backbone}", "pretext=rspnet", "protocol=finetune_rspnet", f"downstream={data}"]
    frame = LARGE if backbone == "s3d_g" else SMALL
    augmentation = {
        "crop": {**frame, "area": [0.25, 1.0]},
        "flip": {"probability": 0.5},
        "grey": {"probability": 0.0},
        "jitter": None,
        **IMAGENET,
    }
    expected = fine_tuning(
        CLASSES[data],
        1,
        augmentation,
        FINETUNE_RSPNET[case],
        "logits",
        frames=64 if backbone == "s3d_g" else 16,
        clips=3 if case == ("resnet3d_18", "hmdb51") else 10,
        frame=frame,
    )
    assert node("protocol", experiment, *choices) == expected


# How often each video counts in one epoch, on K-100 and on UCF101.

REPEATS = {
    # paper: "(10x more iterations at) 90K iterations per epoch" on UCF101 for auxSKD and VSPP
    ("standard", "vspp"): {"auxiliary": (1, 10), "pretext": (1, 10)},
    ("standard", "vcop"): {"auxiliary": (1, 10), "pretext": (1, 1)},
    ("standard", "videopace"): {"auxiliary": (1, 10), "pretext": (1, 10)},
    ("standard", "rspnet"): {"auxiliary": (1, 10), "pretext": (1, 1)},
    ("as_paper", "vspp"): {"auxiliary": (1, 10), "pretext": (1, 10)},
    ("as_paper", "vcop"): {"auxiliary": (1, 10), "pretext": (1, 1)},
    ("as_paper", "videopace"): {"auxiliary": (1, 10), "pretext": (1, 10)},
    ("as_paper", "rspnet"): {"auxiliary": (1, 10), "pretext": (1, 1)},
    # vspp, pace: any list ten times; aux: once, but for the compiled sampler with VideoPace's clips
    ("as_released", "vspp"): {"auxiliary": (1, 1), "pretext": (10, 10)},
    ("as_released", "vcop"): {"auxiliary": (1, 1), "pretext": (1, 1)},
    ("as_released", "videopace"): {"auxiliary": (10, 10), "pretext": (10, 10)},
    ("as_released", "rspnet"): {"auxiliary": (1, 1), "pretext": (1, 1)},
}


@pytest.mark.parametrize(("experiment", "pretext"), REPEATS)
def test_how_often_a_video_counts(experiment, pretext):
    chosen = [] if experiment == "standard" else [f"experiment={experiment}"]
    choices = [*chosen, "backbone=r2plus1d_10", f"pretext={pretext}"]
    chains = [plan(composed(f"source={source}", *choices)) for source in ("kinetics100", "ucf101")]
    found = {
        name: tuple(spec.recipe.data["repeat"] for chain in chains for spec in chain if spec.name == name)
        for name in ("auxiliary", "pretext")
    }
    assert found == REPEATS[experiment, pretext]
