"""Cross-validation by group: no image of a tested group reaches any training, filter, donor or threshold of its part."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.config import Config, Part
from synthimg.core.files import digest, write_table
from synthimg.data import splits
from synthimg.data.prepared import Prepared, load
from synthimg.errors import UserError
from synthimg.evaluation import distance, head, outcomes, relevance
from synthimg.evaluation.inputs import real_features, symmetric_features
from synthimg.evaluation.judged import Judged
from synthimg.metrics.comparison import compare_arms, describe
from synthimg.pipeline import STAGES, run, timings
from synthimg.reading import parse
from synthimg.stages import filter as filter_stage
from synthimg.stages.evaluate import evaluate_run, without_tests
from synthimg.tools.store import free_store, list_runs
from synthimg.vision.features import Features
from synthimg.vision.views import SYMMETRIES

RARE = "a"
HELD = ("validation", "test")
VOLATILE = {"timing.json", "logs", "checkpoints"}


@st.composite
def data_sets(draw: st.DrawFn) -> pd.DataFrame:
    """Classes `a` (rare), `b` and perhaps `c`, in groups of one site each; some groups hold two classes."""
    rows: list[tuple[str, str, str]] = []
    site = st.sampled_from(["here", "here", "there"])
    for label in "abc"[: draw(st.integers(2, 3))]:
        for number, size in enumerate(draw(st.lists(st.integers(1, 5), min_size=4, max_size=16))):
            rows += [(label, f"{label}{number}", where) for where in [draw(site)] for _ in range(size)]
    for number, labels in enumerate(draw(st.lists(st.lists(st.sampled_from("ab"), min_size=2, max_size=4), max_size=4))):
        rows += [(label, f"mixed{number}", where) for where in [draw(site)] for label in labels]
    frame = pd.DataFrame(rows, columns=["label", "group", "attribute.site"])
    return frame.assign(id=[f"{(7919 * index) % 99991:06d}" for index in range(len(frame))])


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    deployment = draw(st.sampled_from([{}, {"site": ["here"]}, {"site": ["there", "here"]}]))
    dataset = {
        "path": "x", "rare_class": RARE, "prompts": "generic", "deployment": deployment,
        "rare_budget": draw(st.none() | st.integers(0, 12)), "rare_groups": draw(st.none() | st.integers(1, 3)),
    }  # fmt: skip
    tree = {"folds": draw(st.integers(3, 5)), "draws": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 9))}
    return parse({"name": "x", "dataset": dataset, **tree})


def folded(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    dataset = config.dataset
    return frame.assign(fold=splits.fold_of(frame, dataset.rare_class, dataset.deployment, config.folds, config.seed))


@settings(max_examples=25, deadline=None)
@given(data_sets(), configurations(), st.integers(0, 99))
def test_no_group_is_on_both_sides_and_every_image_of_the_deployment_is_tested_once(
    frame: pd.DataFrame, config: Config, shuffle: int
) -> None:
    there, rare = splits.is_there(frame, config.dataset.deployment), frame["label"] == RARE
    if min(frame.loc[there & rare, "group"].nunique(), frame.loc[there & ~rare, "group"].nunique()) < config.folds:
        with pytest.raises(UserError, match="folds need as many groups"):
            folded(frame, config)
        return
    frame = folded(frame, config)
    mixed = frame.sample(frac=1, random_state=shuffle)
    assert folded(mixed, config)["fold"].equals(mixed["fold"]), "depends on the row order"
    assert frame.groupby("group")["fold"].nunique().max() == 1
    tested: dict[int, list[str]] = defaultdict(list)
    for part in config.parts:
        split = pd.Series(splits.split_of(frame, part), frame.index)
        assert list(split[mixed.index]) == splits.split_of(mixed, part), "depends on the row order"
        held = set(frame.loc[split.isin(HELD), "group"])
        assert not held & set(frame.loc[split.isin(["train", "reserve"]), "group"])
        assert not set(frame.loc[split == "test", "group"]) & set(frame.loc[split == "validation", "group"])
        assert there[split.isin(HELD)].all()
        assert part.part is not None
        tested[part.part.draw] += list(frame.loc[split == "test", "id"])
        kept = frame[(split == "train") & rare]
        assert config.dataset.rare_budget is None or len(kept) <= config.dataset.rare_budget
    assert set(tested) == set(range(config.redraws))
    assert all(sorted(ids) == sorted(frame.loc[there, "id"]) for ids in tested.values())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=10, max_size=30), st.integers(3, 5), st.integers(0, 9))
def test_each_class_is_spread_evenly_over_the_folds_here_and_elsewhere(sizes: list[int], folds: int, seed: int) -> None:
    """By images, to within its two largest groups; every fold has a group of each, or two where there are twice as many."""
    sites, numbers = ("here", "there"), [number for number, size in enumerate(sizes) for _ in range(size)]
    rows = [(label, f"{label}{site}{number}", site) for label in "ab" for site in sites for number in numbers]
    frame = pd.DataFrame(rows, columns=["label", "group", "attribute.site"])
    frame["fold"] = splits.fold_of(frame, RARE, {"site": ["here"]}, folds, seed)
    for _, part in frame.groupby(["label", "attribute.site"]):
        images = part["fold"].value_counts().reindex(range(folds), fill_value=0)
        groups = part.groupby("fold")["group"].nunique().reindex(range(folds), fill_value=0)
        assert groups.min() >= min(2, len(sizes) // folds)
        assert images.max() - images.min() <= 2 * max(sizes)


def test_every_draw_takes_other_rare_images_and_leaves_the_folds_alone() -> None:
    frame = pd.DataFrame({"label": ["a"] * 30 + ["b"] * 30, "group": [f"{n:02d}" for n in range(60)]})
    frame["id"] = frame["group"]
    dataset = {"path": "x", "rare_class": RARE, "prompts": "generic", "rare_budget": 4}
    config = parse({"name": "x", "folds": 3, "draws": 3, "dataset": dataset})
    frame = folded(frame, config)
    taken: dict[int, list[frozenset[str]]] = defaultdict(list)
    held: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for part in config.parts:
        split = np.array(splits.split_of(frame, part))
        assert part.part is not None
        taken[part.part.fold].append(frozenset(frame.loc[(split == "train") & (frame["label"] == RARE), "id"]))
        held[part.part.fold].add(tuple(frame.loc[np.isin(split, HELD), "id"]))
    assert all(len(set(draws)) == 3 and {len(ids) for ids in draws} == {4} for draws in taken.values())
    assert all(len(found) == 1 for found in held.values())


@pytest.mark.parametrize(
    ("changes", "draws"),
    [
        ({}, 1),
        ({"rare_budget": 5}, 4),
        ({"rare_groups": 2}, 4),
        ({"rare_budget": 0}, 1),
        ({"rare_budget": 0, "rare_groups": 2}, 1),
    ],
)
def test_rare_images_are_drawn_anew_where_there_is_a_choice_of_them_and_no_model_to_train(
    changes: dict[str, int], draws: int
) -> None:
    tree = {"name": "x", "dataset": {"path": "x", "rare_class": RARE, "prompts": "generic", **changes}}
    drawn = {"generate": {"methods": {"procedural": 1}}}
    assert parse({**tree, **drawn}).redraws == draws and len(parse({**tree, **drawn}).parts) == 5 * draws
    assert parse({**tree, "generate": {"methods": {"text": 1, "procedural": 1}}}).redraws == 1
    assert parse({**tree, **drawn, "folds": 1}).redraws == 1 and parse({**tree, **drawn, "folds": 1}).parts[0].part is None
    assert parse({**tree, **drawn, "draws": 2}).redraws == 2


def configured(place: Path, outputs: Path, **dataset: Any) -> Config:
    """Three folds of three groups of rare images and four of others; two draws of three rare images each."""
    tree = tiny.settings(place / "data", outputs, "embedded", folds=3, draws=2)
    tree["dataset"] |= {"rare_budget": 3, **dataset}
    tree["generate"] |= {"count": 6, "methods": {"text": 0, "procedural": 1, "transplant": 1}}
    tree["evaluate"] = {"bootstrap": 50, "extractor": "efficientnet-lite0", "beside": "mirrored",
                        "arms": ["real", "mirrored", "distance", "synthetic", "oracle"]}  # fmt: skip
    return parse(tree)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folds")
    tiny.photographs(place / "data", rare=18, common=24)
    return place


Owners = defaultdict[str, list[set[str]]]


class Traced:
    """Whose pictures features were scaled by and classifiers fitted to in a part, by the module that asked for it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.before: dict[bytes, bytes] = {}
        """Features as the network gives them, of features as classifiers get them."""
        self.scaled: list[tuple[str, Features]] = []
        self.fitted: list[tuple[str, Features]] = []
        for module in (head, filter_stage, relevance, distance):
            name = module.__name__.rpartition(".")[2]
            patch.setattr(module, "power_normaliser", self.noting_scale(name, module.power_normaliser))
            if hasattr(module, "fit_head"):
                patch.setattr(module, "fit_head", self.noting_fit(name, module.fit_head))

    def noting_scale(self, name: str, normaliser: Any) -> Any:
        def noted_scale(like: Features) -> Callable[[Features], Features]:
            self.scaled.append((name, like))
            ready = normaliser(like)

            def noted(features: Features) -> Features:
                found: Features = ready(features)
                self.before |= {row.tobytes(): own.tobytes() for row, own in zip(found, features, strict=True)}
                return found

            return noted

        return noted_scale

    def noting_fit(self, name: str, fit: Any) -> Any:
        def noted_fit(training: Any, *rest: Any, **more: Any) -> Any:
            self.fitted.append((name, training.inputs))
            return fit(training, *rest, **more)

        return noted_fit

    def owners(self, config: Config, data: Prepared) -> tuple[Owners, Owners]:
        """Ids of the real images by whose features, or by those of their mirror images, scales and classifiers were made."""
        ids = data.frame["id"].to_numpy()
        of = dict(zip((row.tobytes() for row in real_features(config, data)), ids, strict=True))
        for which in SYMMETRIES[:3]:
            rows, features = symmetric_features(config, data, which)
            of |= dict(zip((row.tobytes() for row in features), ids[rows], strict=True))
        scaled, fitted = Owners(list), Owners(list)
        for name, found in self.scaled:
            scaled[name].append({of[row.tobytes()] for row in found})
        for name, found in self.fitted:
            fitted[name].append({of.get(self.before[row.tobytes()], "") for row in found} - {""})
        return scaled, fitted


@pytest.fixture(scope="module")
def traced(place: Path) -> tuple[Config, dict[str, tuple[Owners, Owners]]]:
    """A finished run, and for each part what its scales and classifiers saw."""
    config, seen = configured(place, place / "outputs"), {}
    for part in config.parts:
        with pytest.MonkeyPatch.context() as patch:
            trace = Traced(patch)
            run(part)
        seen[part.folder.name] = trace.owners(part, load(part))
    run(config)
    return config, seen


def test_what_trains_or_sets_thresholds_in_a_part_is_of_its_training_groups(
    traced: tuple[Config, dict[str, tuple[Owners, Owners]]],
) -> None:
    config, seen = traced
    assert len(config.parts) == len(seen) == 6
    for part in config.parts:
        frame = load(part).frame
        train, reserve = (set(frame.loc[frame["split"] == name, "id"]) for name in ("train", "reserve"))
        rare = set(frame.loc[(frame["split"] == "train") & (frame["label"] == "cracked"), "id"])
        groups = frame.set_index("id")["group"]
        held = set(frame.loc[frame["split"].isin(HELD), "group"])
        assert len(rare) == 3 and reserve and not held & set(groups[list(train | reserve)])

        plan = pd.read_parquet(part.folder / "generate" / "plan.parquet")
        assert set(plan["method"]) == {"procedural", "transplant"}
        used = {name for column in ("source", "ground", "condition") for name in plan[column] if name}
        assert used <= train and set(plan["source"]) - {""} <= rare
        decisions = pd.read_parquet(part.folder / "filter" / "decisions.parquet")
        assert set(decisions["nearest"]) <= train and decisions["accepted"].any()

        scaled, fitted = seen[part.folder.name]
        assert scaled["filter"] == scaled["head"] == [train] and scaled["distance"] == [train - rare]
        assert fitted["filter"] == [train]
        # real, mirrored, synthetic, oracle, and then the synthetic arm with portions of the pictures
        assert fitted["head"][:4] == [train, train, train, train | reserve] and set(map(frozenset, fitted["head"][4:])) == {
            frozenset(train)
        }
        assert scaled["relevance"] and all(found <= train - rare for found in scaled["relevance"])
        assert all(found <= train for found in fitted["relevance"])

        predictions = pd.read_parquet(part.folder / "classify" / "predictions.parquet")
        for split in HELD:
            told = set(predictions.loc[predictions["split"] == split, "id"])
            assert told == set(frame.loc[frame["split"] == split, "id"])
        thresholds = pd.read_parquet(part.folder / "classify" / "thresholds.parquet").set_index("arm")["threshold"]
        for arm, rows in predictions.groupby("arm"):
            ordinary = rows.loc[(rows["split"] == "validation") & (rows["label"] != "cracked"), "score"]
            assert thresholds[arm] in set(ordinary) and (ordinary <= thresholds[arm]).mean() >= 0.95


def test_the_evaluation_counts_every_image_once_and_tests_no_pairs_of_draws(traced: Any) -> None:
    config, _ = traced
    found = json.loads((config.root / "evaluate" / "metrics.json").read_text())
    n, recall = found["n"], found["recall"]
    assert (n["parts"], n["test_rare"], n["test_other"], n["test_rare_groups"]) == (6, 18, 24, 9)
    assert (n["train_rare"], n["reserve_rare"], n["planned"], n["generated"]) == (3, 3, 36, 36)
    assert len(n["train_rare_groups"]) == 6 and set(n["train_rare_groups"]) <= {2, 3}
    assert n["accepted"] + sum(n["rejected"].values()) == 36
    assert (recall["folds"], recall["draws"], recall["seeds"]) == (3, 2, 1)
    assert list(recall["arms"]) == ["real", "mirrored", "distance", "synthetic", "oracle"]
    for arm in recall["arms"].values():
        assert len(arm["per_seed"]["recall"]) == 2  # one classifier for each draw
    assert recall["gain"]["p"] is None and recall["matched"]["gain"]["p"] is None
    assert all(size["gain"]["p"] is None for size in found["portions"]["sizes"])
    assert {label: sum(row.values()) for label, row in recall["confusion"]["synthetic"].items()} == {
        "cracked": pytest.approx(18), "intact": pytest.approx(24),
    }  # fmt: skip
    assert found["quality"]["n"]["real"] == 18  # those of training and reserve, over all folds


def test_pictures_and_features_that_do_not_depend_on_the_fold_are_worked_out_once(traced: Any) -> None:
    """One file for all real images, one for their mirror images, three for the rare ones', and one for each part's pictures,
    or less where two draws have planned the same ones.
    """
    config, _ = traced
    kept = list((Path(config.outputs) / ".cache" / "features").glob("*.npy"))
    tables = [pd.read_parquet(part.folder / "generate" / "plan.parquet") for part in config.parts]
    plans = {table.drop(columns="id").to_csv() for table in tables}
    assert len(kept) == 5 + len(plans)
    assert (config.root / "dataset").is_symlink() and not any((part.folder / "dataset").exists() for part in config.parts)


def test_what_a_part_links_to_is_in_use_and_a_stage_is_done_when_all_parts_are(traced: Any) -> None:
    config, _ = traced
    assert free_store(config.outputs, dry_run=True) == {}
    (told,) = list_runs(config.outputs)
    assert told.done == ["dataset", "finetune", "generate", "filter", "classify", "evaluate", "report"] and told.verdict
    spent = [json.loads((part.folder / "classify" / "timing.json").read_text())["seconds"] for part in config.parts]
    assert list(timings(config)) == list(STAGES) and timings(config)["classify"]["seconds"] == pytest.approx(sum(spent))
    manifest = config.parts[0].folder / "classify" / "manifest.json"
    text = manifest.read_bytes()
    manifest.unlink()
    (told,) = list_runs(config.outputs)
    manifest.write_bytes(text)
    assert "classify" not in told.done and "filter" in told.done


def contents(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder): path for path in tiny.files(folder)}
    return {str(name): digest(path) for name, path in files.items() if not VOLATILE & set(name.parts)}


@pytest.mark.slow
def test_killed_in_every_part_and_continued_in_another_order_it_gives_the_same_files(
    traced: Any, place: Path, tmp_path: Path
) -> None:
    config, _ = traced
    again = configured(place, tmp_path)
    for part, last in zip(reversed(again.parts), ["finetune", "generate", "filter", "classify"] * 2, strict=False):

        def dying(text: str, last: str = last) -> None:
            if last in text:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(part, dying)
    with pytest.raises(UserError, match="the classifiers are not trained"):
        evaluate_run(again)
    run(again)
    assert contents(again.root) == contents(config.root)
    assert contents(tmp_path / ".cache") == contents(Path(config.outputs) / ".cache")


@pytest.mark.slow
def test_without_real_rare_images_what_needs_them_stands_aside(place: Path, tmp_path: Path) -> None:
    config = configured(place, tmp_path, rare_budget=0)
    settings = config.evaluate.model_copy(update={"beside": "real", "arms": ["real", "distance", "synthetic", "oracle"]})
    config = config.model_copy(update={"draws": 1, "evaluate": settings})
    run(config)
    for part in config.parts:
        frame = load(part).frame
        assert not ((frame["split"] == "train") & (frame["label"] == "cracked")).any()
        assert set(pd.read_parquet(part.folder / "generate" / "plan.parquet")["method"]) == {"procedural"}
        decisions = pd.read_parquet(part.folder / "filter" / "decisions.parquet")
        assert decisions["confidence"].isna().all() and decisions["accepted"].any()
        assert "class" not in set(decisions["reason"])
    found = json.loads((config.root / "evaluate" / "metrics.json").read_text())
    assert found["n"]["train_rare"] == 0 and found["n"]["train_rare_groups"] == [0, 0, 0] and found["n"]["test_rare"] == 18
    assert list(found["recall"]["arms"]) == ["distance", "synthetic", "oracle"], "a classifier of real images cannot be"
    assert found["recall"]["best_control"] == "distance" and found["recall"]["gain"]
    assert found["recall"]["arms"]["synthetic"]["n_train"]["rare"] == 0
    assert found["portions"]["sizes"] == [] and found["portions"]["knee"] is None
    assert "report.html" in {path.name for path in config.root.iterdir()}


def probability(odds: float) -> float:
    return odds / (1 + odds)


GROUPS = {"abbccc": "a", "ddeeefgg": "b"}
FOLD = {"a": 0, "b": 1, "c": 2, "d": 0, "e": 1, "f": 2, "g": 2}
THRESHOLDS = [(1, 3, 1 / 3), (4, 1, 1)]
"""Odds, by draw and fold."""
ODDS = [
    {
        "a": [3],
        "b": [9, 1],
        "c": [1 / 3, 1 / 4, 1],
        "d": [1 / 2, 2],
        "e": [3, 3 / 4, 15],
        "f": [1 / 30],
        "g": [1 / 18, 1 / 3],
    },
    {"a": [2], "b": [3, 1 / 8], "c": [1 / 9, 2, 1 / 3], "d": [1, 8], "e": [1 / 5, 1 / 7, 3], "f": [1 / 2], "g": [1 / 6, 6]},
]
"""By draw and group of test images: a, b, c are rare."""


@pytest.fixture
def known(tmp_path: Path) -> tuple[Config, list[Judged], pd.DataFrame]:
    """Three folds and two draws whose predictions are known, and the records of their test images."""
    dataset = {"path": "x", "rare_class": RARE, "prompts": "generic"}
    tree = {"name": "x", "outputs": str(tmp_path), "folds": 3, "draws": 2, "dataset": dataset}
    config = parse({**tree, "evaluate": {"specificity": 0.5, "bootstrap": 20000}})
    rows = [(f"{group}{n}", label, group) for groups, label in GROUPS.items() for n, group in enumerate(groups)]
    frame = pd.DataFrame(rows, columns=["id", "label", "group"])
    parts = []
    for part in config.parts:
        place = part.part or Part()
        tested = frame[frame["group"].map(FOLD) == place.fold].reset_index(drop=True)
        odds = [one for group in tested["group"].unique() for one in ODDS[place.draw][group]]
        tables, told = [], {"synthetic": odds, "real": [1 / 2] * len(odds)}
        if place.fold:
            told["oracle"] = odds
        for arm, values in told.items():
            own = tested[["id", "label"]].assign(arm=arm, seed=0, split="test", score=[probability(one) for one in values])
            held = own.iloc[:1].assign(split="validation", score=0.999)
            tables.append(pd.concat([held, own.assign(predicted=np.where(own["score"] > 0.6, "a", "b"))]))
        threshold = {"synthetic": THRESHOLDS[place.draw][place.fold], "real": 1, "oracle": 1}
        rows_of = [{"arm": arm, "seed": 0, "threshold": probability(threshold[arm])} for arm in told]
        write_table(part.folder / "classify" / "predictions.parquet", pd.concat(tables))
        write_table(part.folder / "classify" / "thresholds.parquet", pd.DataFrame(rows_of))
        records = Prepared(tested.assign(split="test"), np.empty(0), None)
        parts.append(Judged(part, records, pd.DataFrame(), pd.DataFrame()))
    return config, parts, pd.concat([part.tested for part in parts[:3]])


def test_a_pooled_score_is_the_log_odds_less_those_of_its_folds_threshold(known: Any) -> None:
    _, parts, tested = known
    found = outcomes.pooled(parts, "predictions")
    assert list(found) == ["synthetic", "real"], "an arm that lacks in one part cannot be pooled"
    assert list(tested["group"]) == list("addbbeeecccfgg")  # fold by fold
    expected = [
        [3, 1 / 2, 2, 3, 1 / 3, 1, 1 / 4, 5, 1, 3 / 4, 3, 1 / 10, 1 / 6, 1],
        [1 / 2, 1 / 4, 2, 3, 1 / 8, 1 / 5, 1 / 7, 3, 1 / 9, 2, 1 / 3, 1 / 2, 1 / 6, 6],
    ]
    np.testing.assert_allclose(found["synthetic"].scores, np.log(expected), atol=1e-12)
    np.testing.assert_array_equal(found["synthetic"].thresholds, [0, 0])
    # a score that is the threshold itself is exactly 0, and so not above it
    assert (found["synthetic"].scores == 0).sum() == 3
    # called rare are scores above 0.6, odds above 1.5
    assert "".join(found["synthetic"].predicted[0]) == "abaabababbbbbb"


def test_recall_and_its_interval_over_pooled_images(known: Any) -> None:
    """Hits at the folds' thresholds, by draw: a 1, 0; b 1 0, 1 0; c 0 0 1, 0 1 0. Means: a 1/2, b 1/2, c 1/3 of its images.

    Lowest resample of the three groups: c alone. Highest: any without c.
    """
    config, parts, tested = known
    test, found = outcomes.test_images(config, tested), outcomes.pooled(parts, "predictions")
    assert (test.rare_groups, test.other_groups, len(test.rare_rows), len(test.other_rows)) == (3, 4, 6, 8)
    told = describe(found["synthetic"], test)
    assert told["recall_at_specificity"] == {"mean": pytest.approx(5 / 12), "ci95": pytest.approx([1 / 3, 1 / 2])}
    assert told["per_seed"]["recall_at_specificity"] == pytest.approx([3 / 6, 2 / 6])
    # false alarms: d 1 of 2 in both draws, e 1 of 3 in both, g 0 and 1 of 2
    assert told["specificity_at_threshold"]["mean"] == pytest.approx(1 - 5 / 16)


def test_equal_specificity_is_the_quantile_over_all_pooled_ordinary_images_of_each_draw(known: Any) -> None:
    """Half of eight may be above. First draw: 1/10 1/6 1/4 1/2, then 1 1 2 5; second: 1/7 1/6 1/5 1/4, then 1/2 2 3 6.

    Above 1/2 are all rare ones but the second of b (1/3); above 1/4 all but the second of b (1/8) and the first of c (1/9).
    With one quantile for both draws the last of c would be lost, too. Hits: a 1; b 1, 0; c 1/2, 1, 1 in the mean.
    Lowest resample: b alone, 1/2. Highest: a alone. The control ties with its own threshold everywhere: it finds nothing.
    """
    config, parts, tested = known
    found = compare_arms(outcomes.pooled(parts, "predictions"), outcomes.test_images(config, tested), 0.5)
    assert found["best_control"] == "real" and found["matched"]["recall"] == pytest.approx({"synthetic": 9 / 12, "real": 0})
    assert found["matched"]["gain"]["mean"] == pytest.approx(9 / 12)
    assert found["matched"]["gain"]["ci95"] == pytest.approx([1 / 2, 1])
    assert found["gain"]["ci95"] == pytest.approx([1 / 3, 1 / 2])
    assert found["gain"]["p"] is not None
    bare = without_tests(found)
    assert bare["gain"] == {**found["gain"], "p": None} and bare["matched"]["gain"]["p"] is None
    assert bare["matched"]["recall"] == found["matched"]["recall"]
