"""Newer generations: taken at once, without dropping a request; those that are damaged leave the old one in place."""

import json
import logging
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import everlearn
from everlearn.learner import Learner
from everlearn.serving import app, service
from everlearn.serving.current import Current
from tests.serving.conftest import Wait, encoded, form, picture, serving


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EVERY", 0.05)


def damage(store: Path) -> None:
    """Put a newer generation there of which a byte is wrong, at once."""
    copy = Path(shutil.copytree(store, store.with_name("copy")))
    name = f"generations/{everlearn.open(copy).forget('flags'):06d}"
    flip(copy / name / "numbers.safetensors")
    shutil.copytree(copy / name, store / name)
    (copy / "current").replace(store / "current")


def flip(file: Path) -> None:
    """Change the last byte; done twice it is as it was."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_newer_generation_is_taken(vision: Path, wait: Wait) -> None:
    with TestClient(app(vision)) as client:
        assert client.get("/health").json()["generation"] == 3
        everlearn.open(vision).forget("flags")
        wait(lambda: client.get("/health").json()["generation"] == 4)
        assert [task["name"] for task in client.get("/tasks").json()["tasks"]] == ["fruit"]
        said = client.post("/predict", files=form(encoded(picture("red")))).json()
        assert (said["generation"], said["images"][0]["label"]) == (4, "red")
        assert client.post("/predict?task=flags", files=form(encoded(picture()))).status_code == 404
        assert "everlearn_reloads 1.0" in client.get("/metrics").text


def test_health_says_that_a_newer_one_is_not_loaded_yet(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EVERY", 1000.0)
    with TestClient(app(vision)) as client:
        everlearn.open(vision).forget("flags")
        health = client.get("/health").json()
        assert (health["generation"], health["on_disk"], health["up_to_date"]) == (3, 4, False)


def test_a_damaged_generation_leaves_the_old_one(vision: Path, wait: Wait, caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(app(vision)) as client, caplog.at_level(logging.INFO, "everlearn.serving"):
        damage(vision)
        wait(lambda: client.get("/health").json()["problem"] is not None)
        health = client.get("/health").json()
        assert (health["alive"], health["generation"], health["on_disk"]) == (True, 3, 4)
        assert not health["up_to_date"]
        assert "damaged" in health["problem"]
        assert str(vision.parent) not in health["problem"], "no path of the server's"
        answer = client.post("/predict?task=flags", files=form(encoded(picture("blue"))))
        assert answer.json()["images"][0]["label"] == "blue"
        assert "everlearn_up_to_date 0.0" in client.get("/metrics").text
        assert [r.levelname for r in caplog.records].count("ERROR") == 1, "said once, not every second"
        (vision / "current").write_bytes(b"nonsense")
        wait(lambda: client.get("/health").json()["on_disk"] is None)
        assert client.post("/predict", files=form(encoded(picture()))).status_code == 200


def test_a_mended_generation_is_taken(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = Current(vision, None, None, "cpu")
    damage(vision)
    assert not current.refresh()
    assert current.problem
    flip(vision / "generations" / "000004" / "numbers.safetensors")
    assert not current.refresh(), "it is not read every second"
    monkeypatch.setattr(current, "_again", 0.0)
    assert current.refresh()
    assert (current.loaded.generation, current.problem, current.reloads) == (4, None, 1)


def test_a_store_that_was_made_anew_under_the_same_number(vision: Path, tmp_path: Path) -> None:
    current = Current(vision, None, None, "cpu")
    shutil.rmtree(vision)
    assert not current.refresh()
    assert current.loaded.generation == 3
    fresh = Learner.create(vision, backbone="digits", size=(8, 8), keep=5)
    fresh.rollback(1)
    fresh.rollback(1)
    assert fresh.generation == 3
    assert current.refresh()
    assert current.loaded.tasks == {}


def test_a_request_keeps_the_generation_that_it_began_with(vision: Path) -> None:
    current = Current(vision, None, None, "cpu")
    before = current.loaded
    everlearn.open(vision).forget("flags")
    assert current.refresh()
    assert "flags" in before.networks
    assert "flags" not in current.loaded.networks


def test_fifty_clients_for_three_seconds_while_the_learner_changes(vision: Path) -> None:
    """No error, no lost request, the right answer to each, through several generations."""
    api, done = app(vision), threading.Event()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'

    def ask(port: int, colour: str) -> Counter[int]:
        said: Counter[int] = Counter()
        body = head + encoded(picture(colour)) + b"\r\n--x--\r\n"
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not done.is_set() or not said:
                connection.request("POST", "/predict?task=fruit&top=1", body, headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
                assert answer.status == 200, found
                assert found["images"][0]["label"] == colour
                said[found["generation"]] += 1
        return said

    with serving(api) as port, ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(ask, port, ("red", "green")[place % 2]) for place in range(50)]
        learner = everlearn.open(vision)
        try:
            for _ in range(3):
                done.wait(1)
                learner.rollback(3)
        finally:
            done.set()
        said = sum((one.result() for one in asking), Counter[int]())
    assert len(said) >= 2, "a newer generation was taken meanwhile"
    assert set(said) <= {3, 4, 5, 6}
