"""What a launch says while its stages run in other processes."""

from types import SimpleNamespace

from vssl import context


def test_how_far_all_stages_are_is_said_every_few_seconds_if_it_is_news(monkeypatch, capsys):
    clock, words = [0.0], ["0 of 2 stages done"]
    monkeypatch.setattr(context.time, "monotonic", lambda: clock[0])
    look = context._Lines(SimpleNamespace(far=lambda: SimpleNamespace(words=words[0])))
    for second in range(30):
        clock[0] = float(second)
        words[0] = f"{second // 15} of 2 stages done"
        look()
    assert capsys.readouterr().out.splitlines() == ["all: 0 of 2 stages done", "all: 1 of 2 stages done"]
