"""Any model is judged on a labelled folder, and never on the images that its labels are made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner
from typer.testing import Result as Answer

from miclip.catalogue import Catalogue
from miclip.cli.app import app
from miclip.cli.evaluate import own_trial
from miclip.errors import InvalidInput
from miclip.evaluation.labelled import LabelledImages, apart_from, at_most, halves, read_labelled
from miclip.evaluation.result import NAMES, Result

LABELS = ("red", "green", "blue", "grey")
COLOURS = ((200, 30, 30), (30, 160, 30), (40, 60, 200), (128, 128, 128))
EACH = 10


def picture(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """A noisy plain picture; every seed gives other pixels."""
    noise = np.random.default_rng(seed).integers(-25, 26, (48, 48, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, (name, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        for number in range(EACH):
            picture(tmp_path / "labelled" / name / f"{number}.png", colour, 100 * label + number)
    return tmp_path / "labelled"


def images(folder: Path, labels: tuple[str, ...] = LABELS) -> LabelledImages:
    return read_labelled(folder, labels)[0]


def test_every_subfolder_is_a_class(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "red" / "broken.png").write_text("no image")
    (folder / "red" / "notes.txt").write_text("no image either")
    found, broken = read_labelled(folder, LABELS)
    assert broken == ("red/broken.png",)
    assert {(name.split("/")[0], int(label)) for name, label in zip(found.names, found.labels, strict=True)} == {
        (name, label) for label, name in enumerate(LABELS)
    }
    assert torch.bincount(found.labels).tolist() == [EACH] * len(LABELS)
    assert found.load(3, 5)[0].shape == (3, 48, 48)


def test_folders_that_are_no_labels_and_labels_without_a_folder_are_listed(folder: Path) -> None:
    (folder / "red").rename(folder / "crimson")
    (folder / "extra").mkdir()
    with pytest.raises(InvalidInput, match=r"Unknown: crimson, extra\. Missing: 'red'\.") as caught:
        images(folder)
    assert caught.value.field == "images"
    with pytest.raises(InvalidInput, match="there is no 'nowhere'"):
        images(folder / "nowhere")


def test_a_label_that_two_classes_share_or_that_is_a_path_has_its_number(folder: Path) -> None:
    shared = ("crane", "t-shirt/top", "crane", "grey")
    with pytest.raises(InvalidInput, match="Missing: '0' \\(for 'crane'\\), '1' \\(for 't-shirt/top'\\), '2'"):
        images(folder, shared)
    for number, name in enumerate(LABELS[:3]):
        (folder / name).rename(folder / str(number))
    assert torch.bincount(images(folder, shared).labels).tolist() == [EACH] * 4


def test_an_image_under_two_labels_is_refused(folder: Path) -> None:
    (folder / "red" / "same.png").write_bytes((folder / "grey" / "3.png").read_bytes())
    with pytest.raises(InvalidInput, match=r"'grey/3\.png' and 'red/same\.png' are the same image under two labels"):
        images(folder)


def test_a_class_without_images_is_refused(folder: Path) -> None:
    for path in (folder / "blue").iterdir():
        path.unlink()
    with pytest.raises(InvalidInput, match="'blue' has no images"):
        images(folder)


def test_halves_have_every_class_and_no_image_in_common_even_of_another_name(folder: Path) -> None:
    for number in range(4):
        (folder / "red" / f"copy-{number}.png").write_bytes((folder / "red" / f"{number}.png").read_bytes())
    whole = images(folder)
    assert len(whole.names) == len(LABELS) * EACH
    aligning, judging = halves(whole, LABELS)
    assert torch.bincount(aligning.labels).tolist() == torch.bincount(judging.labels).tolist() == [EACH // 2] * 4
    pixels = [{image.numpy().tobytes() for image in part.load(0, len(part.names))} for part in (aligning, judging)]
    assert not pixels[0] & pixels[1]
    assert [part.names for part in halves(images(folder), LABELS)] == [aligning.names, judging.names]
    assert aligning.sha256 != judging.sha256


def test_too_few_images_to_split_are_refused(folder: Path) -> None:
    for path in sorted((folder / "green").iterdir())[1:]:
        path.unlink()
    with pytest.raises(InvalidInput, match="'green' has one image"):
        halves(images(folder), LABELS)
    picture(folder / "green" / "second.png", COLOURS[1], 999)
    for name in ("red", "blue", "grey"):
        for path in sorted((folder / name).iterdir())[6:]:
            path.unlink()
    with pytest.raises(InvalidInput, match="half of the folder is 10 images; an alignment needs at least 16"):
        halves(images(folder), LABELS)


def test_images_that_labels_are_made_from_do_not_judge(folder: Path) -> None:
    whole = images(folder)
    rest = apart_from(whole, whole.hashes[:3], LABELS)
    assert not set(rest.hashes) & set(whole.hashes[:3])
    assert len(rest.names) == len(whole.names) - 3
    with pytest.raises(InvalidInput, match="has no images beside those that labels are made from"):
        apart_from(whole, [file.sha256 for file in whole.files if file.label == 2], LABELS)


def test_a_few_images_of_every_class_can_stand_for_all(folder: Path) -> None:
    few = at_most(images(folder), 3)
    assert torch.bincount(few.labels).tolist() == [3] * len(LABELS)


def run(*arguments: str) -> Answer:
    return CliRunner().invoke(app, ["evaluate", *arguments])


@pytest.fixture
def model(folder: Path, data_dir: Path, tmp_path: Path) -> str:
    """A transformer of timm's whose last layer is fitted to tell the colours apart."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=len(LABELS)).eval()
    weights, catalogue = tmp_path / "vit.safetensors", Catalogue()
    save_file(network.state_dict(), weights)
    target = catalogue.import_model("untrained", "timm/test_vit", str(weights), labels=LABELS)
    whole = images(folder)
    inputs = torch.stack([target.preprocess(image) for image in whole.load(0, len(whole.names))])
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(inputs), pre_logits=True)
        wanted = 6.0 * torch.eye(len(LABELS))[whole.labels] - 3.0
        design = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        solved = torch.linalg.lstsq(design, wanted, driver="gelsd").solution.T
        network.head.weight.copy_(solved[:, :-1])
        network.head.bias.copy_(solved[:, -1])
    save_file(network.state_dict(), weights)
    catalogue.import_model("colours", "timm/test_vit", str(weights), labels=LABELS)
    return "colours"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_of_another_family_is_judged_on_its_own_images(model: str, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    layers = ["--layer", "blocks.1", "--layer", "norm"]
    answer = run("--model", model, "--images", str(folder), *layers, "--seeds", "1", "--json", "--report", str(page))
    assert answer.exit_code == 0, answer.stderr
    assert "Labels are made from 20 images of labelled (half that labels are made from); 20 other" in answer.stderr
    result = Result.model_validate_json(answer.stdout)
    (name, target), *none = result.targets.items()
    assert (name, none) == (model, [])
    assert target.held_out_top1 == 100.0
    assert target.judged_on == "20 images of labelled (half that judges)"
    assert target.aligned_on == "20 images of labelled (half that labels are made from)"
    assert [place.title for place in target.places] == ["blocks.1, neurons", "norm, neurons", "logits"]
    assert target.unseen is None, "an eighth of four classes is none"
    for place in target.places[:2]:
        found = place.localizations[NAMES]
        assert {"random", "clip_dissect", "attribution", "oracle"} <= set(found.methods)
        assert "network_dissection" not in found.methods, "there are no masks"
        removed = {name: effects.scale_0.target.value for name, effects in found.methods.items()}
        assert min(removed.values()) >= -100
    assert target.cost is not None
    assert "network_dissection" not in target.cost.needs
    assert target.cost.images == 20
    text = page.read_text(encoding="utf-8")
    assert "Judged on 20 images of labelled (half that judges)" in text
    assert "No pictures" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "unheard-of"], "unheard-of"),
        (["--model", "{model}"], "Align it first"),
        (["--images", "{folder}"], "--model: labelled images judge one model"),
        (["--probe-images", "{folder}"], "--probe-images: the demo's models are judged as they are"),
        (["--layer", "layer4"], "--layer: the demo's models are judged as they are"),
        (["--model", "{model}", "--images", "{folder}", "--layer", "nowhere"], "--layer: 'nowhere' is no layer"),
        (["--model", "{model}", "--images", "{folder}"], "colours"),  # it has no atlas that would name its layers
        (["--model", "emoji-resnet", "--images", "{folder}"], "Unknown: blue, green, grey, red. Missing: "),
        (
            ["--model", "{model}", "--images", "{folder}", "--layer", "norm", "--probe-images", "{folder}"],
            "has no images beside those that labels are made from",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(model: str, folder: Path, arguments: list[str], said: str) -> None:
    answer = run(*(argument.format(model=model, folder=folder) for argument in arguments), "--json")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert said in answer.stderr


def test_images_to_make_labels_from_may_lie_elsewhere_and_those_among_them_do_not_judge(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        picture(tmp_path / "photos" / f"{number}.png", COLOURS[number % 4], 5000 + number)
    (tmp_path / "photos" / "known.png").write_bytes((folder / "red" / "0.png").read_bytes())
    trial = own_trial([model], folder, tmp_path / "photos", ["norm"], limit=100)
    (subject,) = trial.subjects
    assert subject.layers == ("norm",)
    assert len(trial.probe(0).names) == 21
    assert torch.bincount(subject.labels).tolist() == [EACH - 1, EACH, EACH, EACH]
    said = capsys.readouterr().err
    assert "Left out 1 of the labelled images: among --probe-images, too." in said
    assert "Labels are made from 21 images of photos; 39 other images of labelled judge them." in said


def test_the_layers_are_those_of_the_atlas_in_the_order_of_the_network(model: str, folder: Path) -> None:
    arguments = ["--model", model, "--images", str(folder), "--steps", "5", "--layer", "norm", "--layer", "blocks.2"]
    aligned = CliRunner().invoke(app, ["align", *arguments])
    assert aligned.exit_code == 0, aligned.stderr
    (subject,) = own_trial([model], folder, None, None, limit=3).subjects
    assert subject.layers == ("blocks.2", "norm")
    assert subject.penultimate == "norm"
    assert [place.title for place in subject.places()] == ["blocks.2, neurons", "norm, neurons", "logits"]
    assert torch.bincount(subject.labels).tolist() == [3, 3, 3, 3]
    (subject,) = own_trial([model], folder, None, ["all"], limit=3).subjects
    assert set(subject.layers) > {"blocks.1", "blocks.2", "norm"}
