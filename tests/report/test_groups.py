"""What may be compared with what."""

import dataclasses

from everlearn.experiments.store import StoredRun
from everlearn.report.groups import comparisons


def test_trials_of_a_method_are_one_entry_single_task_learning_first(runs) -> None:
    (found,) = comparisons(reversed(runs))
    assert found.labels == ["stl", "df-cnn", "df-cnn.direct", "df-cnn.tc2", "hps", "tf"]
    assert [[t.stored.run.config.trial for t in entry.trials] for entry in found.entries] == [[0, 1, 2]] * 6


def test_another_training_is_another_comparison(make_run) -> None:
    one = make_run("stl", 0)
    other = make_run("stl", 0, training=dataclasses.replace(one.run.config.training, rate=0.5))
    found = comparisons([one, other])
    assert sorted(comparison.training.rate for comparison in found) == [1e-3, 0.5]
    assert [comparison.labels for comparison in found] == [["stl"], ["stl"]]


def test_another_option_of_the_stream_is_another_comparison(make_run) -> None:
    one = make_run("stl", 0)
    stream = one.run.config.stream.model_copy(update={"options": {"rest": True}})
    config = one.run.config.model_copy(update={"stream": stream})
    other = dataclasses.replace(one, run=one.run.model_copy(update={"config": config, "id": "other"}))
    assert [comparison.title for comparison in comparisons([one, other])] == [
        "digits (seed 0, rest True)",
        "digits (seed 0)",
    ]


def test_trials_may_have_streams_of_different_seeds(make_run) -> None:
    (found,) = comparisons([make_run("stl", trial, seed=trial) for trial in range(3)])
    assert found.seeds == (0, 1, 2)
    assert len(found.entries[0].trials) == 3


def test_unfinished_runs_are_left_out_and_copies_count_once(make_run) -> None:
    run = make_run("stl", 0)
    (found,) = comparisons([run, run, make_run("stl", 1, finished=False)])
    assert len(found.trials()) == 1
    assert comparisons([make_run("stl", 1, finished=False)]) == []


def test_labels_say_only_what_tells_entries_apart(make_run) -> None:
    runs = [
        make_run("stl", 0),
        make_run("stl", 0, backbone="large"),
        make_run("hps", 0),
        make_run("hps", 0, options={"strength": 2.0, "same": 1}),
        make_run("hps", 0, options={"strength": 3.0, "same": 1}),
    ]
    (found,) = comparisons(runs)
    assert found.labels == [
        "stl (digits-cnn)",
        "stl (large)",
        "hps (digits-cnn)",
        "hps (digits-cnn, same 1, strength 2.0)",
        "hps (digits-cnn, same 1, strength 3.0)",
    ]


def test_a_method_with_nothing_but_defaults_has_its_plain_name(make_run) -> None:
    runs = [make_run("lwf", 0), make_run("lwf", 0, options={"response": "l1"})]
    (found,) = comparisons([*runs, make_run("lwf", 0, options={"temperature": 1})])
    assert found.labels == ["lwf", "lwf (response l1)", "lwf (temperature 1)"]


def test_large_single_task_learning_is_drawn_but_not_the_reference(make_run) -> None:
    (found,) = comparisons([make_run("a", 0), make_run("stl", 0), make_run("stl-large", 0)])
    assert found.labels == ["stl", "stl-large", "a"]
    assert [entry.label for entry in found.singles()] == ["stl", "stl-large"]
    assert found.entries[2].trials[0].alone is found.entries[0].trials[0].history


def test_forward_transfer_is_against_the_same_trial_seed_and_backbone(make_run) -> None:
    runs = [make_run("stl", 0), make_run("stl", 1), make_run("hps", 1), make_run("hps", 2)]
    runs.append(make_run("hps", 0, backbone="large"))
    (found,) = comparisons(runs)
    alone = {
        (entry.label, trial.stored.run.config.trial): trial.alone for entry in found.entries for trial in entry.trials
    }
    single = next(entry for entry in found.entries if entry.single_task)
    assert alone["hps (digits-cnn)", 1] is single.trials[1].history
    assert alone["hps (digits-cnn)", 2] is None
    assert alone["hps (large)", 0] is None
    assert alone["stl (digits-cnn)", 0] is None


def test_versions_of_a_users_own_file_are_methods_of_their_own(make_run) -> None:
    def version(method: str, backbone: str, code: dict[str, str]) -> StoredRun:
        run = make_run(method, 0, backbone=backbone)
        config = run.run.config.model_copy(update={"code": code})
        return dataclasses.replace(run, run=run.run.model_copy(update={"config": config, "id": str((method, code))}))

    runs = [version("mine.py:Mine", "digits", {"mine.py:Mine": mark}) for mark in ("aaaaaaaa", "bbbbbbbb")]
    (found,) = comparisons([*runs, make_run("hps", 0, backbone="digits")])
    assert found.labels == ["hps", "mine.py:Mine (file aaaaaa)", "mine.py:Mine (file bbbbbb)"]
    assert [len(entry.trials) for entry in found.entries] == [1, 1, 1]

    nets = [version(m, "n.py:Net", {"n.py:Net": mark}) for m in ("stl", "hps") for mark in ("aaaaaaaa", "bbbbbbbb")]
    (found,) = comparisons(nets)
    assert found.labels == ["stl (file aaaaaa)", "stl (file bbbbbb)", "hps (file aaaaaa)", "hps (file bbbbbb)"]
    alone = {entry.label: entry.trials[0] for entry in found.entries}
    assert alone["hps (file aaaaaa)"].alone is alone["stl (file aaaaaa)"].history, "each beside its own"
    assert alone["hps (file bbbbbb)"].alone is alone["stl (file bbbbbb)"].history
