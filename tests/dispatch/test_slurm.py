import os
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import fake_store
from conftest import composed, context_in
from vssl.dispatch.cluster import Job
from vssl.dispatch.records import JobRecords, read_job
from vssl.dispatch.slurm import Resources, SlurmDispatcher, Submission
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.stage.choice import choosing
from vssl.stage.kind import TEST
from vssl.stage.store import StageStore


class FakeCluster:
    """Takes submissions down and pretends that all of them wait."""

    def __init__(self, limit=1001):
        self.limit = limit
        self.sent = []
        self.queue = {}
        self.cancelled = []

    def submit(self, script, options):
        number = str(100 + len(self.sent))
        self.sent.append((script, options))
        for task in tasks(options):
            self.queue[f"{number}_{task}"] = Job(f"{number}_{task}", "PENDING", "Priority", "", 0)
        return number

    def jobs(self):
        return self.queue

    def cancel(self, ids):
        self.cancelled += ids

    def max_array_size(self):
        return self.limit

    def end(self, job, state):
        self.queue[job] = Job(job, state, "None", "node1", 0)


def value(options, name):
    """The value of --name=value, or None."""
    return next((o.partition("=")[2] for o in options if o.startswith(f"--{name}=")), None)


def tasks(options):
    return [int(task) for task in value(options, "array").partition("%")[0].split(",")]


def jobs_of(script):
    """Task number -> name of the job file, as the shell reads the script."""
    [line] = re.findall(r"^jobs=\((.*)\)$", script, re.M)
    return {
        int(n): path for n, path in (re.fullmatch(r"\[(\d+)\]=(.*)", w).groups() for w in shlex.split(line))
    }


def stage(name, number, parent=None):
    spec = fake_store.stage(name, "Any", {"num_videos": 10}, number, parent)
    return replace(spec, paths={"root": "/data"})


def chains(count):
    """`count` independent chains pretext -> finetune -> test, as a forest."""
    forest = []
    for number in range(count):
        pretext = stage("pretext", number)
        finetune = stage("finetune", number, pretext)
        forest += [pretext, finetune, stage("test", number, finetune)]
    return forest


@pytest.fixture
def context(tmp_path):
    plain = {"outputs": str(tmp_path / "my outputs"), "runtime": {}, "tracking": {}, "launch": {}}
    return replace(context_in(tmp_path / "my outputs"), plain=plain)


@pytest.fixture
def cluster():
    return FakeCluster()


def dispatcher(*overrides):
    node = composed("dispatch=slurm", *overrides).dispatch
    return build(OmegaConf.to_container(node, resolve=True), "dispatch")


def submit(forest, context, cluster, *overrides):
    return Submission(dispatcher(*overrides), context, cluster).submit(forest)


def finish(context, spec):
    context.store.folder(spec).mkdir(parents=True, exist_ok=True)
    context.store.finish(spec, fake_store.result())


def job_id(context, spec):
    return JobRecords(context.store.root.parent).read(spec.key).id


def dependencies(context, cluster, forest):
    """For each stage the jobs that its own job waits for, as (parent's job, type)."""
    found = {}
    for number, (script, options) in enumerate(cluster.sent):
        kind, _, target = (value(options, "dependency") or "").partition(":")
        for task, path in jobs_of(script).items():
            job = f"{100 + number}_{task}"
            waits_for = f"{target}_{task}" if kind == "aftercorr" else target
            key = read_job(Path(path))[0].key
            found[key] = (job, waits_for)
    return {spec: found[spec.key] for spec in forest if spec.key in found}


def test_every_stage_is_one_task_that_waits_for_its_own_parent(context, cluster):
    forest = chains(3)
    outcomes = submit(forest, context, cluster)
    assert [outcome.status for outcome in outcomes] == ["submitted"] * 9
    assert len(cluster.sent) == 3  # one array of three tasks for each kind
    for spec, (job, waits_for) in dependencies(context, cluster, forest).items():
        assert job == job_id(context, spec)
        assert waits_for == (job_id(context, spec.parent) if spec.parent else "")
    waiting = [options for _, options in cluster.sent if value(options, "dependency")]
    assert all(value(options, "kill-on-invalid-dep") == "yes" for options in waiting)
    assert len(waiting) == 2


def test_a_stage_that_chooses_waits_for_the_end_of_all_candidates(context, cluster):
    """It starts when its parent is done and each candidate has ended, whatever came of it."""
    pretext = stage("pretext", 0)
    pairs = [(one, stage("test", n, one)) for n in (1, 2) for one in [stage("finetune", n, pretext)]]
    finetune = choosing(stage("finetune", 0, pretext), {"training.lr": [1, 2]}, pairs)
    forest = [pretext, *(one for pair in pairs for one in pair), finetune, stage("test", 0, finetune)]
    submit(forest, context, cluster)
    waits_for = {spec: waits for spec, (_, waits) in dependencies(context, cluster, forest).items()}
    ids = {spec: job_id(context, spec) for spec in forest}
    for training, test in pairs:
        assert (waits_for[training], waits_for[test]) == (ids[pretext], ids[training])
    assert waits_for[finetune] == f"{ids[pretext]},afterany:{ids[pairs[0][1]]}:{ids[pairs[1][1]]}"
    assert waits_for[forest[-1]] == ids[finetune]
    # What is done is not waited for, and the job file alone says what is chosen from.
    context = replace(context, store=StageStore(context.store.root.parent.parent / "other"))
    for spec in forest[:-2]:
        finish(context, spec)
    again = FakeCluster()
    submit(forest, context, again)
    [(script, options), _] = again.sent
    assert value(options, "dependency") is None
    assert read_job(Path(jobs_of(script)[0]))[0].recipe.choose["tests"] == [
        f"test/{test.key}" for _, test in pairs
    ]


def test_many_children_of_few_parents(context, cluster):
    # one auxiliary stage with three pretexts, another one with one; each pretext is tuned once
    one, two = stage("auxiliary", 1), stage("auxiliary", 2)
    pretexts = [
        stage("pretext", 1, one),
        stage("pretext", 2, one),
        stage("pretext", 3, one),
        stage("pretext", 4, two),
    ]
    tuned = [stage("finetune", spec.recipe.seed, spec) for spec in pretexts]
    forest = [one, two, *pretexts, *tuned]
    submit(forest, context, cluster)
    for spec, (_, waits_for) in dependencies(context, cluster, forest).items():
        assert waits_for == (job_id(context, spec.parent) if spec.parent else "")
    assert [len(tasks(options)) for _, options in cluster.sent] == [2, 3, 1, 3, 1]


def test_the_job_file_holds_the_whole_chain(context, cluster):
    forest = chains(1)
    submit(forest, context, cluster)
    script, _ = cluster.sent[2]
    spec, plain = read_job(Path(jobs_of(script)[0]))
    assert spec == forest[2]
    assert spec.parent.parent.recipe == forest[0].recipe
    assert spec.paths == {"root": "/data"}
    assert plain == context.plain


def test_arrays_are_split_at_the_limit_of_the_cluster(context):
    cluster = FakeCluster(limit=4)
    forest = chains(10)
    submit(forest, context, cluster, "dispatch.max_parallel=3")
    sizes = [len(tasks(options)) for _, options in cluster.sent]
    assert sizes == [4, 4, 2] * 3
    assert max(max(tasks(options)) for _, options in cluster.sent) < 4  # Slurm counts indices
    assert all(value(options, "array").endswith("%3") for _, options in cluster.sent)
    for spec, (_, waits_for) in dependencies(context, cluster, forest).items():
        assert waits_for == (job_id(context, spec.parent) if spec.parent else "")


def test_nothing_is_submitted_twice(context, cluster):
    forest = chains(2)
    submit(forest, context, cluster)
    assert [o.status for o in submit(forest, context, cluster)] == ["queued"] * 6
    assert len(cluster.sent) == 3
    finish(context, forest[0])
    cluster.end(job_id(context, forest[0]), "COMPLETED")
    cluster.end(job_id(context, forest[1]), "RUNNING")
    again = submit(forest, context, cluster)
    assert [o.status for o in again] == ["reused", *["queued"] * 5]
    assert again[1].reason == f"job {job_id(context, forest[1])} running"
    assert len(cluster.sent) == 3


def test_what_is_submitted_while_ctrl_c_comes_is_not_submitted_again(context, cluster):
    """It comes when Slurm has the job and the launch does not know its number yet."""
    forest = chains(1)
    take = cluster.submit

    def submit_interrupted(script, options):
        number = take(script, options)
        os.kill(os.getpid(), signal.SIGINT)
        return number

    cluster.submit = submit_interrupted
    for sent in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            submit(forest, context, cluster)
        assert len(cluster.sent) == sent
    assert [outcome.status for outcome in submit(forest, context, cluster)] == ["queued"] * 3


@pytest.mark.parametrize("remembered", [True, False])
def test_what_failed_is_submitted_again_with_what_needs_it(context, cluster, remembered):
    forest = chains(2)
    submit(forest, context, cluster)
    for spec in forest[:3]:  # the first chain failed; Slurm took its children out of the queue
        job = job_id(context, spec)
        cluster.end(job, "FAILED" if spec is forest[0] else "CANCELLED")
        if not remembered:
            del cluster.queue[job]
    again = submit(forest, context, cluster)
    assert [o.status for o in again] == [*["submitted"] * 3, *["queued"] * 3]
    for spec, (_, waits_for) in dependencies(context, cluster, forest).items():
        assert waits_for == (job_id(context, spec.parent) if spec.parent else "")


def test_a_child_that_still_waits_for_a_failed_parent_is_replaced(context, cluster):
    forest = chains(1)
    submit(forest, context, cluster)
    old = [job_id(context, spec) for spec in forest]
    cluster.end(old[0], "FAILED")  # and Slurm has not looked at the children yet
    again = submit(forest, context, cluster)
    assert [o.status for o in again] == ["submitted"] * 3
    assert cluster.cancelled == old[1:]


def test_a_new_child_waits_for_a_parent_that_is_in_the_queue(context, cluster):
    forest = chains(2)
    submit(forest[:1] + forest[3:4], context, cluster)
    outcomes = submit(forest, context, cluster)
    assert [o.status for o in outcomes] == ["queued", "submitted", "submitted"] * 2
    assert value(cluster.sent[1][1], "dependency") == "aftercorr:100"
    assert outcomes[1].reason == "job 101_0, after 100_0"


def test_each_kind_of_stage_asks_for_what_it_needs(context, cluster):
    options = [
        "dispatch.default.partition=long",
        "dispatch.default.gpus=4",
        'dispatch.default.extra=["--mail-type=FAIL"]',
        "dispatch.test.gpus=1",
        "dispatch.test.partition=short",
        "dispatch.pretext.time=2-00:00:00",
        "dispatch.pretext.memory=64G",
    ]
    submit(chains(1), context, cluster, *options)
    pretext, finetune, test = (options for _, options in cluster.sent)
    assert [value(o, "partition") for o in (pretext, finetune, test)] == ["long", "long", "short"]
    assert [value(o, "gres") for o in (pretext, finetune, test)] == ["gpu:4", "gpu:4", "gpu:1"]
    assert value(pretext, "time") == "2-00:00:00"
    assert [value(o, "mem") for o in (pretext, finetune)] == ["64G", "32G"]
    assert all("--mail-type=FAIL" in o for o in (pretext, finetune, test))
    assert not any(o.startswith(("--account", "--qos", "--constraint")) for o in test)


def test_no_gpus_are_asked_for_with_zero():
    assert not any(
        "gres" in option for option in dispatcher("dispatch.default.gpus=0").resources(TEST).options()
    )


def shape(options):
    return [value(options, name) for name in ("nodes", "ntasks", "ntasks-per-node")]


def test_one_process_for_each_gpu_of_all_nodes_trains_a_stage_and_one_tests_it(context, cluster):
    pretext = stage("pretext", 0)
    forest = [pretext, stage("test", 0, pretext)]
    submit(forest, context, cluster, "dispatch.default.gpus=4", "dispatch.default.nodes=2")
    assert [shape(options) for _, options in cluster.sent] == [["2", "8", "4"], ["1", "1", "1"]]
    script, _ = cluster.sent[0]
    assert "MASTER_ADDR=$SLURMD_NODENAME" in script
    assert "RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID" in script


def test_processes_without_gpus_are_said(context, cluster):
    options = ["dispatch.default.gpus=0", "dispatch.pretext.nodes=2", "dispatch.pretext.processes=6"]
    submit([stage("pretext", 0)], context, cluster, *options)
    assert shape(cluster.sent[0][1]) == ["2", "6", "3"]
    with pytest.raises(VsslError, match=r"^dispatch\.pretext\.processes=3: not a multiple of nodes=2; give"):
        dispatcher("dispatch.pretext.nodes=2", "dispatch.pretext.processes=3")


def test_stages_can_be_requeued_and_hear_of_it_in_time(context, cluster):
    submit(chains(1), context, cluster, "dispatch.signal_s=300", "dispatch.max_requeues=7")
    script, options = cluster.sent[0]
    assert "--requeue" in options
    assert "--open-mode=append" in options
    assert value(options, "signal") == "USR2@300"  # without B: the step hears it, as with scancel --signal
    assert script.rstrip().endswith('"${jobs[$SLURM_ARRAY_TASK_ID]}" 7')
    assert "srun --kill-on-bad-exit=1" in script


def test_a_refused_submission_says_why(context, cluster):
    def refuse(script, options):
        raise VsslError("sbatch failed: invalid partition specified: fast")

    cluster.submit = refuse
    with pytest.raises(VsslError, match="invalid partition"):
        submit(chains(1), context, cluster)


def test_every_resource_has_a_value_in_the_yaml():
    assert isinstance(dispatcher(), SlurmDispatcher)
    assert isinstance(dispatcher().pretext, Resources)
