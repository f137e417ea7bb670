import pytest
from omegaconf import OmegaConf

from vssl.cli import as_hydra_wants_it
from vssl.commands.logs import LINES, execute
from vssl.dispatch.records import JobRecords, Record
from vssl.errors import VsslError


def logs(outputs, stage):
    execute(OmegaConf.create({"outputs": str(outputs), "stage": stage}))


@pytest.fixture
def outputs(tmp_path):
    for name, key in (("pretext", "12ab"), ("finetune", "12cd")):
        folder = tmp_path / "stages" / name / key
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("".join(f"{key} line {i}\n" for i in range(100)))
    return tmp_path


def test_the_end_of_the_log_is_printed(outputs, capsys):
    logs(outputs, "12a")
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == f"{outputs}/stages/pretext/12ab/log.txt"
    assert lines == [f"12ab line {i}" for i in range(100 - LINES, 100)]
    assert last == ""


def test_what_the_job_printed_follows(outputs, capsys):
    JobRecords(outputs).write("77ef", Record("5_0"))  # a job that never came to its stage
    JobRecords(outputs).log("5_0").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    logs(outputs, "77")
    assert (
        capsys.readouterr().out
        == f"{outputs}/jobs/slurm-5_0.txt\nslurmstepd: error: Detected 1 oom_kill event\n\n"
    )


@pytest.mark.parametrize(
    ("stage", "message"),
    [(None, "beginning of a key"), ("99", "no such stage"), ("12", "2 stages begin like this")],
)
def test_one_stage_has_to_be_named(outputs, stage, message):
    with pytest.raises(VsslError, match=message):
        logs(outputs, stage)


def test_a_key_of_digits_stays_a_word():
    assert as_hydra_wants_it(["mode=logs", "stage=12345678"]) == ["mode=logs", "stage='12345678'"]
