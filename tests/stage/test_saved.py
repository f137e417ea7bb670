"""Trained backbones in two lines, from the store and from an exported folder."""

import subprocess
import sys

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import vssl
from conftest import composed
from vssl.commands.export import execute as export
from vssl.errors import VsslError
from vssl.stage.saved import CONFIG, expected_input


def outputs_of(a_backbone):
    clips = torch.rand(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return a_backbone(clips)


@pytest.fixture
def trained(finished):
    """What the pretext stage's weights give, computed without vssl.load_backbone."""
    store, chains = finished
    folder = store.folder(chains["knn"][0])
    node = dict(yaml.safe_load((folder / "recipe.yaml").read_text())["backbone"])
    assert node.pop("_target_") == "vssl.backbone.tiny.Tiny"
    from vssl.backbone.tiny import Tiny

    net = Tiny(**node).eval()
    net.load_state_dict(torch.load(folder / "weights.pt"))
    return folder, outputs_of(net)


def test_from_a_key_its_beginning_or_a_folder(finished, trained):
    store, _ = finished
    folder, expected = trained
    for where in (folder.name, folder.name[:8], folder, str(folder)):
        backbone = vssl.load_backbone(where, outputs=store.root.parent)
        assert not backbone.training
        assert torch.equal(outputs_of(backbone), expected)


def test_a_stage_that_trains_nothing_gives_the_backbone_it_used(finished, trained):
    store, chains = finished
    for spec in chains["retrieval"][1:]:
        assert torch.equal(outputs_of(vssl.load_backbone(spec.key, store.root.parent)), trained[1])
    tested = vssl.load_backbone(chains["finetune"][-1].key, store.root.parent)
    fine_tuned = vssl.load_backbone(chains["finetune"][-2].key, store.root.parent)
    assert torch.equal(outputs_of(tested), outputs_of(fine_tuned))
    assert not torch.equal(outputs_of(tested), trained[1])


def test_loading_draws_no_number(finished):
    store, chains = finished
    before = torch.get_rng_state()
    vssl.load_backbone(chains["knn"][0].key, store.root.parent)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def exported(finished, trained, tmp_path):
    store, _ = finished
    key = trained[0].name
    export(
        composed(
            "mode=export", f"stage='{key[:8]}'", f"outputs={store.root.parent}", f"export.out={tmp_path}"
        )
    )
    return tmp_path


def test_an_export_gives_the_same_outputs(exported, trained):
    assert {path.name for path in exported.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert torch.equal(outputs_of(vssl.load_backbone(exported)), trained[1])


def test_the_card_says_how_to_load_and_what_came_of_it(finished, exported):
    store, chains = finished
    card = (exported / "README.md").read_text()
    assert f"# Tiny, pretext {chains['knn'][0].key}" in card
    assert "vssl.load_backbone(" in card
    assert "[B, 3, 16, 32, 32]" in card
    assert "from 0 to 255" in card
    for protocol in ("finetune", "linear", "retrieval", "knn"):
        test = chains[protocol][-1]
        [row] = [line for line in card.splitlines() if line.startswith(f"| {test.key} |")]
        for name, value in store.result(test)["metrics"].items():
            assert f" {name} {100 * value:.1f}" in row
    recipe = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert recipe["key"] == chains["knn"][0].key


def test_the_default_place_of_an_export(finished, capsys):
    store, chains = finished
    key = chains["linear"][1].key
    export(composed("mode=export", f"stage='{key}'", f"outputs={store.root.parent}"))
    folder = store.root.parent / "export" / f"linear-{key}"
    assert str(folder) in capsys.readouterr().out
    assert (folder / "model.safetensors").exists()


def test_a_folder_from_elsewhere_may_name_no_other_class(exported):
    config = (exported / CONFIG).read_text()
    (exported / CONFIG).write_text(config.replace("vssl.backbone.tiny.Tiny", "subprocess.Popen"))
    with pytest.raises(VsslError, match=r"subprocess\.Popen is no backbone"):
        vssl.load_backbone(exported)


def test_weights_of_another_backbone_and_damaged_ones(exported):
    config = (exported / CONFIG).read_text()
    (exported / CONFIG).write_text(config.replace("64", "65"))
    with pytest.raises(VsslError, match="not weights of Tiny"):
        vssl.load_backbone(exported)
    (exported / CONFIG).write_text(config)
    (exported / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(VsslError, match=r"model\.safetensors: damaged"):
        vssl.load_backbone(exported)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"training": {}, "parent": None}, "has not finished training"),
        ({"parent": None}, "nothing was trained before it"),
    ],
)
def test_stages_without_weights(tmp_path, recipe, message):
    folder = tmp_path / "stages" / "some" / "12ab"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(VsslError, match=message):
        vssl.load_backbone("12", tmp_path)


def test_a_stage_that_is_not_there_and_one_of_two(tmp_path):
    for key in ("12ab", "12cd"):
        folder = tmp_path / "stages" / "some" / key
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text("{}")
    with pytest.raises(VsslError, match="2 stages begin like this; give"):
        vssl.load_backbone("12", tmp_path)
    for where in ("nothing", "/no/such/folder"):
        with pytest.raises(VsslError, match="no such stage in"):
            vssl.load_backbone(where, tmp_path)
    with pytest.raises(VsslError, match="neither a stage's folder nor an exported one"):
        vssl.load_backbone(tmp_path)


def test_input_of_the_auxiliary_stage_is_that_of_its_pretext():
    from vssl.pipeline import plan

    auxiliary, pretext, *_ = plan(composed("backbone=r3d_10", "pretext=rspnet"))
    found = expected_input(pretext.recipe)
    assert found == expected_input(auxiliary.recipe)
    assert found == {
        **{"num_frames": 16, "resize": [128, 171], "crop": 112, "pixel_max": 1.0},
        **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    }


def test_importing_vssl_imports_no_torch():
    code = "import sys, vssl; vssl.load_backbone; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_stage_is_named(tmp_path):
    with pytest.raises(VsslError, match="which stage"):
        export(OmegaConf.create({"stage": None, "outputs": str(tmp_path)}))


@pytest.mark.parametrize("content", ["a: [", "\x00", "- ]"])
def test_a_damaged_recipe_is_one_line(content, tmp_path):
    (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(VsslError, match="its recipe is damaged; delete the folder"):
        vssl.load_backbone(tmp_path)
