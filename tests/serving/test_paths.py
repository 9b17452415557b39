"""What each path says of a learner that stays as it is."""

import re
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import everlearn
from everlearn.errors import ConfigurationError, StoreError
from everlearn.learner import Learner
from everlearn.serving import app
from everlearn.serving.limits import Limits
from everlearn.serving.service import SWITCH
from tests.serving.conftest import FLAGS, FRUIT, encoded, form, picture


def test_tasks(client: TestClient, original: Path) -> None:
    said = client.get("/tasks").json()
    assert said["generation"] == 3
    fruit, flags = said["tasks"]
    assert (fruit["name"], fruit["classes"], fruit["size"], fruit["generation"]) == (
        "fruit",
        list(FRUIT),
        [3, 16, 16],
        2,
    )
    assert flags["classes"] == list(FLAGS)
    assert fruit["accuracy"] == everlearn.open(original).tasks["fruit"].accuracy
    assert fruit["images"] == {"train": 60, "validation": 6, "test": 6}


def test_one_task_answers_as_the_learner_does(client: TestClient, original: Path, tmp_path: Path) -> None:
    colours = ["red", "green", "blue", "yellow"]
    files = [encoded(picture(c, (30, 17)), "JPEG") for c in colours]
    paths = [tmp_path / f"{c}.jpg" for c in colours]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    expected = everlearn.open(original).predict(paths, task="flags")
    said = client.post("/predict?task=flags", files=form(*files)).json()
    assert said["generation"] == 3
    for image, one in zip(said["images"], expected, strict=True):
        assert (image["task"], image["label"], image["sure"], image["answers"]) == ("flags", one.label, None, [])
        assert image["probabilities"] == pytest.approx(one.probabilities, abs=2e-6)
        assert list(image["probabilities"].values()) == sorted(image["probabilities"].values(), reverse=True)
    assert [image["label"] for image in said["images"]][2:] == ["blue", "yellow"]


def test_without_a_task_the_most_plausible_one_answers(client: TestClient, original: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture("blue")))
    one = everlearn.open(original).predict(tmp_path / "a.png")[0]
    said = client.post("/predict?top=2", files=form(encoded(picture("blue")))).json()["images"][0]
    assert (said["task"], said["label"], said["name"]) == (one.task, one.label, "image.png")
    assert said["sure"] == pytest.approx(one.sure, abs=2e-6)
    assert {a["task"]: a["certainty"] for a in said["answers"]} == pytest.approx(one.tasks, abs=2e-6)
    assert [len(a["probabilities"]) for a in said["answers"]] == [2, 2]
    assert said["answers"][0]["task"] == one.task, "the most certain first"


def test_many_images_and_their_order(client: TestClient) -> None:
    colours = [*["red", "green"] * 31, "green", "red"]
    said = client.post("/predict?task=fruit&top=1", files=form(*(encoded(picture(c)) for c in colours))).json()
    assert [image["label"] for image in said["images"]] == colours
    refused = client.post("/predict", files=form(*[encoded(picture())] * 65))
    assert refused.status_code == 413
    assert "64 images at most" in refused.json()["error"]


def test_health_and_metrics(original: Path) -> None:
    with TestClient(app(original)) as client:
        assert client.get("/health").json() == {
            "alive": True, "generation": 3, "on_disk": 3, "up_to_date": True, "problem": None
        }  # fmt: skip
        client.post("/predict", files=form(encoded(picture()), encoded(picture())))
        client.post("/predict", files=form(b""))
        client.get("/nothing/../here")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    numbers = dict(re.findall(r"^(\S+) (\S+)$", answer.text, re.M))
    assert numbers['everlearn_requests_total{path="/predict",status="200"}'] == "1.0"
    assert numbers['everlearn_requests_total{path="/predict",status="422"}'] == "1.0"
    assert numbers['everlearn_requests_total{path="other",status="404"}'] == "1.0"
    assert numbers['everlearn_request_seconds_count{path="/predict"}'] == "2.0"
    assert numbers["everlearn_images_total"] == "2.0"
    assert numbers["everlearn_generation"] == "3.0"
    assert numbers["everlearn_reloads"] == "0.0"
    assert numbers["everlearn_batch_images_sum"] == "2.0"


def test_openapi_and_the_pages(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/tasks", "/predict", "/health", "/metrics"}
    post = api["paths"]["/predict"]["post"]
    assert {p["name"] for p in post["parameters"]} == {"task", "top"}
    assert "images" in post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"200", "400", "404", "409", "413", "415", "422"} <= set(post["responses"])
    for path in ("/", "/docs"):
        page = client.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "//" not in re.sub(r"<!.*?>|'[^']*'", "", page.text), "nothing from elsewhere"
        assert page.headers["x-content-type-options"] == "nosniff"
    assert "POST /predict" in client.get("/docs").text


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("task=fruits", 404, "did you mean fruit?"),
        ("task=", 404, "no task named ''"),
        ("top=0", 422, "greater than or equal to 1"),
        ("top=many", 422, "top came as 'many'"),
        ("taks=fruit", 400, "there is no parameter named 'taks'; did you mean task?"),
        ("task=fruit&task=fruit", 400, "the parameter task came 2 times; give it once."),
    ],
)
def test_questions_without_sense(client: TestClient, query: str, status: int, part: str) -> None:
    answer = client.post(f"/predict?{query}", files=form(encoded(picture())))
    assert answer.status_code == status
    assert part in answer.json()["error"]


def test_what_is_not_there(client: TestClient) -> None:
    for method, path, status in (("GET", "/predict", 405), ("GET", "/../current", 404), ("POST", "/tasks", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"].endswith(".")


def test_a_learner_without_tasks_and_none_at_all(tmp_path: Path) -> None:
    Learner.create(tmp_path / "new", backbone="digits", size=(8, 8), grey=True)
    with TestClient(app(tmp_path / "new")) as client:
        assert client.get("/tasks").json() == {"generation": 1, "tasks": []}
        answer = client.post("/predict", files=form(encoded(picture())))
        assert answer.status_code == 409
        assert "knows no task yet" in answer.json()["error"]
    with pytest.raises(StoreError, match="does not exist"):
        app(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="pixels"):
        Limits(pixels=0)


def test_threads_hand_python_over_sooner_while_it_serves(original: Path) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.003)
    try:
        with TestClient(app(original)):
            assert sys.getswitchinterval() == pytest.approx(SWITCH)
        assert sys.getswitchinterval() == pytest.approx(0.003)
    finally:
        sys.setswitchinterval(before)
