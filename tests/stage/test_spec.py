"""The key of a stage: what moves it and what does not."""

from vssl.stage.spec import StageSpec


def spec(recipe=None, parent=None, paths=None):
    return StageSpec("pretext", recipe or {"lr": 0.1, "epochs": 2}, parent, paths or {})


def test_key_ignores_order_and_the_spelling_of_numbers():
    assert spec({"a": 1, "b": 2.0}).key == spec({"b": 2, "a": 1.0}).key
    assert spec({"lr": 2e-2}).key == spec({"lr": 0.02}).key


def test_key_moves_with_recipe_name_and_parent():
    base = spec()
    others = [
        spec({"lr": 0.2, "epochs": 2}),
        StageSpec("finetune", base.recipe),
        spec(parent=spec({"lr": 9})),
        spec(parent=spec({"lr": 8})),
    ]
    assert len({base.key, *(other.key for other in others)}) == 5


def test_true_is_not_one():
    assert spec({"drop_last": True}).key != spec({"drop_last": 1}).key


def test_key_ignores_paths():
    assert spec(paths={"data": "/a"}).key == spec(paths={"data": "/b"}).key


def test_chain_starts_at_the_root():
    first = spec({"n": 1})
    second = spec({"n": 2}, parent=first)
    third = spec({"n": 3}, parent=second)
    assert third.chain == [first, second, third]
