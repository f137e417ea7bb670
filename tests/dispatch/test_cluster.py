import pytest

from vssl.dispatch.cluster import Job, Slurm
from vssl.errors import VsslError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH on which nothing but the given stand-ins for Slurm's commands is found."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def command(name, script):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return command


SQUEUE = """
echo '12_3      |PENDING   |Dependency   |              |0   |'
echo '13        |RUNNING   |None         |node7         |2   |'
echo '14_0      |FAILED    |NonZeroExitCode|node7       |0   |'
"""


def test_jobs_are_read_from_squeue(path):
    path("squeue", SQUEUE)
    jobs = Slurm().jobs()
    assert jobs["12_3"] == Job("12_3", "PENDING", "Dependency", "", 0)
    assert jobs["13"] == Job("13", "RUNNING", "None", "node7", 2)
    assert [(job.waits, job.alive) for job in jobs.values()] == [(True, True), (False, True), (False, False)]


def test_the_limit_of_arrays_is_read_from_the_config(path):
    path("scontrol", "echo 'MaxArraySize            = 1001'; echo 'MaxDBDMsgs = 20008'")
    assert Slurm().max_array_size() == 1001


def test_a_script_is_piped_to_sbatch(path, tmp_path):
    path("sbatch", f'read line; echo "$line $@" > {tmp_path}/seen; echo "123;cluster"')
    assert Slurm().submit("#!/bin/bash\n", ["--array=0-3"]) == "123"
    assert (tmp_path / "seen").read_text() == "#!/bin/bash --parsable --array=0-3\n"


def test_what_slurm_says_is_passed_on(path):
    path("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    with pytest.raises(VsslError, match="sbatch failed: sbatch: error: invalid partition"):
        Slurm().submit("", [])


def test_without_slurm_it_is_one_line(path):
    with pytest.raises(VsslError, match="squeue: no such command"):
        Slurm().jobs()


def test_slurm_is_asked_without_what_an_allocation_left_in_the_environment(path, monkeypatch):
    theirs = [
        *("SLURM_MEM_PER_CPU", "SLURM_GPUS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SBATCH_PARTITION"),
        *("SRUN_CPUS_PER_TASK", "SALLOC_NODES", "SQUEUE_FORMAT", "SQUEUE_PARTITION"),
    ]
    for name in [*theirs, "SLURM_CONF", "SLURM_JWT", "MLFLOW_TRACKING_USERNAME"]:
        monkeypatch.setenv(name, "1")
    path("sbatch", "export -p | while read word name; do printf '%s ' ${name%%=*}; done")
    seen = Slurm().submit("", []).split()
    assert not set(theirs) & set(seen)
    assert {"SLURM_CONF", "SLURM_JWT", "MLFLOW_TRACKING_USERNAME"} <= set(seen)
