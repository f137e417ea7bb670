"""Trained backbones in two lines, from the store and from an exported folder."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import vssl
from conftest import composed
from vssl.commands.export import execute as export
from vssl.errors import VsslError
from vssl.pipeline import plan
from vssl.stage.saved import CONFIG, expected_input, for_input
from vssl.stage.store import StageStore


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
        for name, value in store.result(test).metrics.items():
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
    with pytest.raises(VsslError, match=r"subprocess\.Popen is no backbone; give a folder that vssl wrote"):
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


def claimed(store, *specs):
    """Leave the folders of stages that never ran to their end."""
    for spec in specs:
        with store.claim(spec):
            pass


def test_stages_without_weights(tmp_path):
    store = StageStore(tmp_path)
    pretext, finetune, _ = plan(composed("auxiliary=none"))
    gallery, *_ = plan(composed("auxiliary=none", "pretext=none", "protocol=knn"))
    claimed(store, pretext, finetune, gallery)
    for spec in (pretext, finetune):
        folder = store.folder(spec)
        with pytest.raises(
            VsslError, match=rf"^{folder}: has not finished training; run it to its end first$"
        ):
            vssl.load_backbone(spec.key, tmp_path)
        with pytest.raises(VsslError, match="has not finished training"):
            vssl.load_backbone(folder)
    with pytest.raises(
        VsslError, match=rf"^{store.folder(gallery)}: nothing was trained before it; give the key"
    ):
        vssl.load_backbone(gallery.key, tmp_path)


def test_a_stage_that_is_not_there_and_one_of_two(tmp_path):
    for key in ("12ab", "12cd"):
        (tmp_path / "stages" / "some" / key).mkdir(parents=True)
    with pytest.raises(VsslError, match="2 stages begin like this; give"):
        vssl.load_backbone("12", tmp_path)
    for where in ("nothing", "/no/such/folder"):
        with pytest.raises(VsslError, match="no such stage in"):
            vssl.load_backbone(where, tmp_path)


NEITHER = r"{}: neither a stage's folder nor an exported one; give OUTPUTS/stages/NAME/KEY, or"


@pytest.mark.parametrize("depth", ["", "some", "stages", "stages/pretext", "stages/pretext/12ab"])
def test_a_folder_that_is_neither_a_stage_nor_exported(depth, tmp_path):
    folder = tmp_path / depth
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(VsslError, match=f"^{NEITHER.format(folder)}"):
        vssl.load_backbone(folder)
    with pytest.raises(VsslError, match=f"^{NEITHER.format('/')}"):
        vssl.load_backbone("/")


def test_a_folder_that_was_taken_out_of_its_store_and_a_link_into_it(finished, trained, tmp_path):
    folder, expected = trained
    taken = shutil.copytree(folder, tmp_path / "mine")
    with pytest.raises(VsslError, match=f"^{NEITHER.format(taken)}"):
        vssl.load_backbone(taken)
    (tmp_path / "link").symlink_to(folder)
    assert torch.equal(outputs_of(vssl.load_backbone(tmp_path / "link")), expected)


def test_a_folder_of_another_format_is_refused(finished, tmp_path):
    store, chains = finished
    pretext = chains["knn"][0]
    folder = shutil.copytree(store.folder(pretext), tmp_path / "stages" / "pretext" / pretext.key)
    assert vssl.load_backbone(folder)
    (folder / "recipe.yaml").write_text(
        (folder / "recipe.yaml").read_text().replace("format: 2", "format: 1")
    )
    with pytest.raises(
        VsslError, match=r"recipe\.yaml: written by an older vssl \(format 1, this one has 2\)"
    ):
        vssl.load_backbone(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 99}', r"exported by a newer vssl; update vssl$"),
        ("{", r"config\.json: damaged .*; export the stage again$"),
        (None, r"config\.json: not there; export the stage again$"),
    ],
)
def test_an_exported_folder_without_a_config_that_can_be_read(content, message, exported):
    (exported / CONFIG).unlink()
    if content is not None:
        (exported / CONFIG).write_text(content)
    with pytest.raises(VsslError, match=message):
        vssl.load_backbone(exported)


def test_input_of_the_auxiliary_stage_is_that_of_its_pretext():
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


def test_an_augmentation_for_the_input_of_another_recipe():
    """The centre crop of the tests, in the size and the range of pixels of RSPNet on a large backbone."""
    [pretext, *_] = plan(composed("backbone=r3d_10", "pretext=rspnet", "auxiliary=none"))
    *_, test = plan(composed("auxiliary=none"))
    given = expected_input(pretext.recipe)
    node = for_input(test.recipe.augmentation, given)
    assert expected_input(replace(pretext.recipe, augmentation=node)) == given
    assert node["crop"]["_target_"].endswith(".CenterCrop")


def test_no_stage_is_named(tmp_path):
    with pytest.raises(
        VsslError, match=r"^stage=null: needs the beginning of a key; stage=KEY \(mode=status"
    ):
        export(OmegaConf.create({"stage": None, "outputs": str(tmp_path)}))


@pytest.mark.parametrize("content", ["a: [", "\x00", "- ]", ""])
def test_a_damaged_recipe_is_one_line(content, tmp_path):
    [pretext, *_] = plan(composed("auxiliary=none"))
    store = StageStore(tmp_path)
    claimed(store, pretext)
    (store.folder(pretext) / "recipe.yaml").write_text(content)
    for where in (store.folder(pretext), pretext.key):
        with pytest.raises(VsslError, match=r"recipe\.yaml: damaged; delete that folder and run again$"):
            vssl.load_backbone(where, tmp_path)
