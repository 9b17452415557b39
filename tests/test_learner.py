"""A learner on disk: what it learned is there in another process, and more can be learned."""

import os
import subprocess
import sys
from contextlib import closing
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import everlearn
from everlearn.errors import (
    ConfigurationError,
    DataError,
    EverlearnError,
    EverlearnWarning,
    StoreError,
    UnknownNameError,
)
from everlearn.learner import Learner
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.seeds import derive
from everlearn.storing.answering import certainty
from everlearn.storing.building import Code, load_mind
from everlearn.storing.requests import Request, check_count
from everlearn.storing.store import Store
from everlearn.testing.methods import SHAPE, made_stream
from everlearn.training.data import StreamData
from everlearn.training.fit import Plan, State, learn
from everlearn.training.settings import Training
from tests.storing.conftest import original, vision  # noqa: F401 (fixtures)

QUICK = {"epochs": 2, "batch": 10, "evaluate_every": 2}
STREAM = made_stream(tasks=4)
IMAGES = torch.cat([task.test.images for task in STREAM.tasks if task.test])
METHODS = [
    "stl", "hps", "tf", "df-cnn", "apd", "apd-net", "prognn", "den", "lwf", "ewc", "l2", "lasem-hps", "darts-hps",
    "expansion", "feature-extraction", "brute-force-hps",
]  # fmt: skip
OPTIONS = {
    "expansion": {"nodes": 4},
    "feature-extraction": {"hidden": 16},
    "den": {"k": 2},
    "apd-net": {"consolidate_every": 2},
}


def new(folder: Path, method: str = "hps", **training: object) -> Learner:
    backbone = "den-mnist" if method == "den" else "digits"
    options = OPTIONS.get(method, {})
    return Learner.create(folder, method=method, backbone=backbone, options=options, training={**QUICK, **training})  # type: ignore[arg-type]


def numbers(folder: Path) -> dict[str, torch.Tensor]:
    network = load_mind(Store(folder).read(), Code()).network
    assert network is not None
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def in_parts(learner: Learner, asked: Request) -> None:
    """Learn a task with as many interruptions as there can be."""
    while asked.name not in learner.tasks:
        with closing(learner.learning(asked)) as steps:
            next(steps, None)
        learner.refresh()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lives_on_disk(tmp_path: Path, method: str) -> None:
    """Taught task by task, opened anew each time, it ends with the numbers of one run over the whole stream.

    The last lesson is abandoned wherever that can be, and gone on with.
    """
    folder = tmp_path / "vision"
    new(folder, method)
    for task in STREAM.tasks[:3]:
        learner = everlearn.open(folder)
        if task is STREAM.tasks[2]:
            in_parts(learner, Request(task.name, task, standardise="none"))
        else:
            learner.learn(task.name, task, standardise="none")
        before = learner.predict(IMAGES, task.name)
        assert everlearn.open(folder).predict(IMAGES, task.name) == before, "the same bits"
    assert list(learner.tasks) == ["task 1", "task 2", "task 3"]

    made = make_method(method, learner.record.backbone, 10, OPTIONS.get(method, {}))
    training = Training(**vars(learner.record.training))
    seed = derive(0, "trial")
    network = made.network(make_backbone(learner.record.backbone, SHAPE), 10, seed)
    stream = made_stream(tasks=3)
    plan = Plan(made, StreamData(stream, torch.device("cpu"), True), [2, 2, 2], training, seed)
    state = State(network)
    list(learn(plan, state))
    wanted, found = network.state_dict(), numbers(folder)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert learner.record.epochs == state.epochs

    rest = learner.predict(IMAGES, "task 2")
    learner.forget("task 1")
    assert everlearn.open(folder).predict(IMAGES, "task 2") == rest, "forgetting leaves the others as they are"
    learner.learn("task 1", STREAM.tasks[3])
    assert list(everlearn.open(folder).tasks) == ["task 2", "task 3", "task 1"]


@pytest.mark.parametrize(
    ("method", "word"),
    [
        ("joint", "images of earlier tasks"),
        ("mtl", "images of earlier tasks"),
        ("den-finetune", "images of earlier tasks"),
        ("dmtrl", "how many tasks"),
        ("dmtrl-from-stl", "all tasks together"),
        ("hps@all/none", "configuration for each task"),
        ("nonsense", "no method named"),
    ],
)
def test_methods_that_cannot(tmp_path: Path, method: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        new(tmp_path / "vision", method)
    assert not (tmp_path / "vision").exists()


def test_a_setting_that_changes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.warns(EverlearnWarning, match=r"beta1 changes nothing: .* here is tf1-rmsprop"):
        learner = new(tmp_path / "vision", beta1=0.5)
    with pytest.warns(EverlearnWarning, match="momentum changes nothing"):
        learner.learn("task 1", STREAM.tasks[0], training={"momentum": 0.9, "schedule": "hyperbolic", "decay": 0.1})


ANOTHER = """
import sys
import numpy as np
import torch
torch.set_num_threads(1)
import everlearn
from everlearn.testing.methods import made_split
from everlearn.tasks.task import Task
learner = everlearn.open(sys.argv[1])
images = np.load(sys.argv[2])
print(learner.predict(images, "birds")[0])
splits = [made_split(count, 3, 7) for count in (30, 9, 9)]
learner.learn("letters", Task("letters", ("a", "b", "c"), *splits), training={"epochs": 20, "optimiser": "adam"})
print(sorted({p.label for p in learner.predict(splits[2].images, "letters")}))
for wrong in (
    lambda: learner.predict(images, "dogs"),
    lambda: learner.predict(images, 0),
    lambda: learner.predict(3),
    lambda: learner.learn("numbers", 3),
):
    try:
        wrong()
    except everlearn.EverlearnError as error:
        print(error)
"""


def test_another_process_opens_it_and_learns_what_nobody_knew_of(tmp_path: Path) -> None:
    learner = new(tmp_path / "vision", "lwf")
    learner.learn("birds", STREAM.tasks[0])
    np.save(tmp_path / "images.npy", IMAGES.numpy())
    first = learner.predict(IMAGES, "birds")[0]
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / "vision"), str(tmp_path / "images.npy")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == str(first)
    assert said[1] == "['a', 'b', 'c']"
    assert said[2].endswith("named 'dogs'; there are birds, letters.")
    assert said[3].endswith("named 0; there are birds, letters.")
    assert said[4:] == [
        "images are wanted as paths, images of Pillow or an array, one or several, but came as 3.",
        "images are wanted as a folder of class folders or a Task, but came as 3.",
    ]
    assert learner.refresh()
    assert list(learner.tasks) == ["birds", "letters"]
    assert not learner.refresh()


def test_several_processes_do_not_teach_batch_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner.create(tmp_path / "vision", method="hps", backbone="resnet18", training=QUICK)
    monkeypatch.setattr("everlearn.storing.teaching.world", lambda: 2)
    with pytest.raises(ConfigurationError, match="has batch normalisation"):
        learner.learn("0", STREAM.tasks[0])
    assert everlearn.open(tmp_path / "vision").generation == learner.generation == 1


def folder_of(root: Path, classes: int = 3, count: int = 10, shift: int = 0) -> Path:
    for c in range(classes):
        (root / f"class {c}").mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12, 10), (80 * c + 5, 9 * i + shift, 40)).save(root / f"class {c}" / f"{i}.png")
    return root


def test_folders_are_prepared_alike_when_learned_and_when_asked(tmp_path: Path) -> None:
    birds = folder_of(tmp_path / "birds")
    learner = Learner.create(tmp_path / "vision", method="stl", backbone="digits", training=QUICK, size=(8, 8))
    learner.learn("birds", birds, test=folder_of(tmp_path / "test", shift=3))
    task = learner.tasks["birds"]
    assert task.images == {"train": 24, "validation": 6, "test": 30}
    assert task.classes == ["class 0", "class 1", "class 2"]
    paths = sorted(birds.rglob("*.png"))[:4]
    by_path = learner.predict(paths, "birds")
    opened = [Image.open(path) for path in paths]
    assert learner.predict(opened, "birds") == by_path
    levels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in opened])
    assert learner.predict(levels, "birds") == by_path, "8-bit levels are resized as files are"
    small = np.stack([np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)) for image in opened])
    pixels = torch.from_numpy(small.transpose(0, 3, 1, 2)).float() / 255
    assert learner.predict(pixels, "birds") == by_path
    assert learner.predict(str(paths[0]), "birds") == by_path[:1]
    found = learner.evaluate("birds", birds)
    right = [
        a.label == p.parent.name
        for a, p in zip(
            learner.predict(sorted(birds.rglob("*.png")), "birds"), sorted(birds.rglob("*.png")), strict=True
        )
    ]
    assert found.accuracy == pytest.approx(sum(right) / 30)
    # x' = (x - mean) / scale with the numbers of the training images, by hand for one image.
    mean, scale = torch.tensor(task.preprocessing.mean), torch.tensor(task.preprocessing.scale)
    shown = (pixels[:1] - mean.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
    logits = learner.network("birds")(shown)
    assert list(by_path[0].probabilities.values()) == pytest.approx(logits.softmax(1)[0].tolist(), rel=1e-5)


def test_which_task(tmp_path: Path) -> None:
    # p = (1/2, 1/4, 1/4): H = log 2 / 2 + log 4 / 2 = 1.5 log 2, so c = 1 - 1.5 log 2 / log 3 = 0.05360536
    p = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    assert certainty(p, False).tolist() == pytest.approx([1 - 1.5 * log(2) / log(3), 1.0])
    # A multi-label task: labels of 1/2 and 1 say nothing and all; their mean is one half.
    assert certainty(torch.tensor([[0.5, 1.0]]), True).tolist() == pytest.approx([0.5])
    learner = new(tmp_path / "vision", "stl", epochs=30, optimiser="adam", rate=0.01)
    learner.learn("birds", STREAM.tasks[0])
    only = learner.predict(IMAGES[:1])[0]
    assert (only.task, only.sure) == ("birds", None)
    learner.learn("fish", STREAM.tasks[1])
    for answer, of_birds, of_fish in zip(
        learner.predict(IMAGES), learner.predict(IMAGES, "birds"), learner.predict(IMAGES, "fish"), strict=True
    ):
        scores = {
            name: float(certainty(torch.tensor([list(one.probabilities.values())]), False))
            for name, one in (("birds", of_birds), ("fish", of_fish))
        }
        best = max(scores, key=scores.__getitem__)
        assert answer.task == best
        assert answer.tasks == pytest.approx(scores, abs=1e-6)
        assert answer.sure == pytest.approx(abs(scores["birds"] - scores["fish"]), abs=1e-6)
        assert answer.label == {"birds": of_birds, "fish": of_fish}[best].label


def test_test_images_that_the_folder_holds_are_not_trained_on(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder_of(tmp_path / "birds" / part, shift=len(part))
    learner = Learner.create(tmp_path / "vision", method="stl", backbone="digits", training=QUICK, size=(8, 8))
    with pytest.raises(ConfigurationError, match=r"birds/test holds test images already, .* move this one away"):
        learner.learn("birds", tmp_path / "birds", test=folder_of(tmp_path / "more", shift=3))
    assert learner.generation == 1


@pytest.mark.parametrize("count", [3.0, -1, "3"])
def test_a_count_of_images_to_keep_that_is_none_is_refused(count: object) -> None:
    check_count(3)
    with pytest.raises(ConfigurationError, match=f"keep_validation needs a whole number .*, but came as {count!r}"):
        check_count(count)


def test_it_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="keep_validation needs a whole number"):
        new(tmp_path / "vision", "hps").learn("birds", STREAM.tasks[0], keep_validation=-1)


def test_an_unknown_backbone_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no backbone named 'cifra'; did you mean cifar"):
        Learner.create(tmp_path / "vision", backbone="cifra")
    assert not (tmp_path / "vision").exists()


def test_a_new_version_is_never_silently_worse(tmp_path: Path) -> None:
    folder = tmp_path / "vision"
    learner = new(folder, "hps", epochs=40, optimiser="adam", rate=0.01, schedule="constant")
    learner.learn("birds", STREAM.tasks[0], keep_validation=8)
    assert learner.tasks["birds"].accuracy["validation"] == 1.0
    answers = learner.predict(IMAGES, "birds")
    # The same images with their labels the other way round: what helps the new task hurts the old one.
    task = STREAM.tasks[0]
    splits = [type(s)(s.images.flip(-2), s.labels) for s in task.splits().values()]
    other = type(task)("fish", task.classes, *splits)
    hard = {"rate": 0.1, "epochs": 60}
    with pytest.raises(StoreError, match=r"'fish' was not learned: the accuracy of 'birds' would fall from 1\.0000 to"):
        learner.learn("fish", other, accept_drop=0.02, training=hard)
    assert everlearn.open(folder).generation == learner.generation == 2
    assert everlearn.open(folder).predict(IMAGES, "birds") == answers
    done = learner.learn("fish", other, training=hard)
    assert [(e.task, e.before, e.images) for e in done.others] == [("birds", 1.0, 8)]
    assert done.others[0].after is not None
    assert done.others[0].after < 0.98
    assert done.others[0].moved > 0
    assert learner.history[-1].training == hard
    assert learner.history[-1].others == done.others
    watched = learner.learn("more", other, validate={"fish": other.test}, accept_drop=1.0)  # type: ignore[dict-item]
    assert [e.images for e in watched.others] == [8, 12]
    learner.rollback(2)
    assert everlearn.open(folder).predict(IMAGES, "birds") == answers
    assert [event.what for event in learner.history] == ["created", "learned", "learned", "learned", "rolled back"]
    assert learner.learn("fish", other, accept_drop=0.0, training={"rate": 1e-12}).others[0].after == 1.0


def test_training_that_comes_to_nothing_changes_nothing(tmp_path: Path) -> None:
    learner = new(tmp_path / "vision")
    learner.learn("birds", STREAM.tasks[0])
    with pytest.raises(StoreError, match="not finite"):
        learner.learn("fish", STREAM.tasks[1], training={"rate": 1e30, "optimiser": "sgd"})
    assert everlearn.open(tmp_path / "vision").generation == 2


def test_images_are_kept_only_where_that_was_asked_for(tmp_path: Path) -> None:
    learner = new(tmp_path / "vision")
    learner.learn("birds", STREAM.tasks[0])
    inside = tmp_path / "vision" / "generations" / "000002"
    assert {file.name for file in inside.iterdir()} == {"manifest.json", "learner.json", "numbers.safetensors"}
    learner.learn("fish", STREAM.tasks[1], keep_validation=3)
    assert (tmp_path / "vision" / "generations" / "000003" / "validation-1.safetensors").exists()
    learner.forget("fish")
    for file in (tmp_path / "vision" / "generations" / "000004").iterdir():
        assert not file.name.startswith("validation")
    assert "fish" not in learner.tasks
    with pytest.raises(ConfigurationError, match="there are birds"):
        learner.predict(IMAGES, "fish")


def test_old_generations_are_pruned(tmp_path: Path) -> None:
    learner = Learner.create(tmp_path / "vision", method="stl", backbone="digits", training=QUICK, keep=2)
    for task in STREAM.tasks[:3]:
        learner.learn(task.name, task)
    assert learner.generations == [3, 4]
    assert {f.name for f in (tmp_path / "vision" / "generations").iterdir()} == {"000003", "000004"}
    with pytest.raises(StoreError, match="no generation 2; it keeps 3, 4"):
        learner.rollback(2)


OWN = """
from everlearn import Backbone, StaticTransfer
from everlearn.sharing.hard import Hard
from torch import nn
def Mine(setting):
    return StaticTransfer(Hard(), "all")
def net(shape):
    return Backbone.of([nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.ReLU())], 4 * 36)
"""


def test_a_file_of_the_users_own_is_run_where_the_user_names_it_alone(tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.py", tmp_path / "vision"
    file.write_text(OWN)
    method, backbone = f"{file}:Mine", f"{file}:net"
    learner = Learner.create(folder, method=method, backbone=backbone, training=QUICK)
    learner.learn("birds", STREAM.tasks[0])
    with pytest.raises(StoreError, match="name it yourself"):
        everlearn.open(folder)
    assert everlearn.open(folder, method, backbone).predict(IMAGES, "birds") == learner.predict(IMAGES, "birds")
    file.write_text(OWN + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(StoreError, match="its content has changed"):
        everlearn.open(folder, method, backbone)
    assert not (tmp_path / "ran").exists()


def test_mistakes_get_a_sentence(tmp_path: Path, original: Path) -> None:  # noqa: F811
    learner = everlearn.open(original)
    task = STREAM.tasks[2]

    def refuses(what: str, **how: object) -> None:
        with pytest.raises(EverlearnError, match=what):
            learner.learn(**{"name": "more", "images": task, **how})  # type: ignore[arg-type]

    refuses("knows a task 'birds' already", name="birds")
    refuses("there is no folder", images=tmp_path / "none")
    refuses("no task to validate named 'bird'; did you mean birds", validate={"bird": tmp_path})
    refuses("accept_drop needs", accept_drop=2.0)
    refuses("no training setting named 'rates'", training={"rates": 1})
    refuses("option of this method", options={"lamda": 1})
    refuses("protocol lifelong", training={"protocol": "multi-task"})
    refuses("leave out the size", size=(9, 9))
    refuses("sides of 1 to 16,384 pixels, but came as 0 x 9", size=(0, 9))
    with pytest.raises(ConfigurationError, match="sides of 1 to 16,384 pixels, but came as 20000 x 20000"):
        Learner.create(tmp_path / "huge", size=(20000, 20000))
    refuses("learner's images are 1 x 8 x 8", images=made_task((3, 8, 8)))
    refuses("no way to standardise", standardise="zca")
    assert learner.generation == everlearn.open(original).generation == 3
    with pytest.raises(DataError, match="8 x 8 pixels are wanted"):
        learner.predict(np.zeros((2, 1, 9, 9), dtype=np.float32), "birds")
    with pytest.raises(DataError, match="not finite"):
        learner.predict(np.full((2, 1, 8, 8), np.nan, dtype=np.float32), "birds")
    with pytest.raises(StoreError, match="in use"):
        Learner.create(original)
    with pytest.raises(StoreError, match="does not exist"):
        everlearn.open(tmp_path / "none")
    empty = new(tmp_path / "empty")
    with pytest.raises(ConfigurationError, match="knows no task yet"):
        empty.predict(IMAGES)


def made_task(shape: tuple[int, int, int]) -> everlearn.Task:
    split = everlearn.Split(torch.rand(8, *shape), torch.arange(8) % 2)
    return everlearn.Task("made", ("a", "b"), split, split, split)


def test_one_writer(original: Path) -> None:  # noqa: F811
    with Store(original).writing(), pytest.raises(StoreError, match="another process is changing"):
        everlearn.open(original).forget("birds")
    assert everlearn.open(original).predict(IMAGES, "birds")


def test_options_that_shape_the_network_are_settled(tmp_path: Path) -> None:
    learner = new(tmp_path / "vision", "df-cnn")
    learner.learn("birds", STREAM.tasks[0])
    with pytest.raises(ConfigurationError, match="shape the network"):
        learner.learn("fish", STREAM.tasks[1], options={"kb_channels": "3,3,3"})
