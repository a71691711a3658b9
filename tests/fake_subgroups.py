"""The sections `subgroups` and `prevalence` of a plausible metrics.json; fake_run.py has the others."""

from __future__ import annotations

from typing import Any


def fake_subgroups(gain: float) -> dict[str, Any]:
    """Poly cells, most of all dark ones, are found least, and gain most."""
    types, shades = {"mono": 0.06, "poly": -0.08}, {"bright": 0.05, "dark": -0.1, "medium": 0.02}
    both = {(one, other): types[one] + shades[other] for one in types for other in shades}
    found = {}
    for table, control in (("at_thresholds", "oversampled"), ("at_equal_specificity", "weighted")):
        parts = [
            _partition(["type"], control, {(name,): lead for name, lead in types.items()}, gain),
            _partition(["brightness"], control, {(name,): lead for name, lead in shades.items()}, gain),
            _partition(["type", "brightness"], control, both, gain),
        ]
        found[table] = {"best_control": control, "partitions": parts}
    return found


def _partition(names: list[str], control: str, leads: dict[tuple[str, ...], float], gain: float) -> dict[str, Any]:
    """Of six subgroups the last is of few groups."""

    def spread(mean: float, least: float, known: bool = True) -> dict[str, Any]:
        return {"mean": mean, "ci95": [max(least, mean - 0.07), min(1.0, mean + 0.07)] if known else None}

    few = max(leads) if len(leads) > 3 else None
    parts = [
        {
            "categories": list(key), "images": 30, "groups": 4 if key == few else 21,
            "recall": {
                control: spread(0.61 + lead, 0.0, key != few),
                "synthetic": spread(0.61 + 0.7 * lead + gain, 0.0, key != few),
                "oracle": spread(0.72 + 0.5 * lead, 0.0, key != few),
            },
            "change": spread(gain - 0.3 * lead, -1.0, key != few),
        }
        for key, lead in sorted(leads.items())
    ]  # fmt: skip
    large = [part for part in parts if part["groups"] >= 6]
    arms = {}
    for arm in (control, "synthetic", "oracle"):
        worst, *_, best = sorted(large, key=lambda part: part["recall"][arm]["mean"])
        gap = spread(best["recall"][arm]["mean"] - worst["recall"][arm]["mean"], -1.0)
        arms[arm] = {"worst": worst["categories"], "best": best["categories"], "gap": gap}
    change = next(part["change"] for part in parts if part["categories"] == arms[control]["worst"])
    untold = 0 if names == ["type"] else 3
    return {"attributes": names, "untold": untold, "subgroups": parts, "arms": arms, "change_of_worst": change}


def fake_prevalence(gain: float, ordinary: int) -> dict[str, Any]:
    def results(less: float, specificity: float) -> dict[str, Any]:
        found = {}
        for arm, lead in (("oversampled", 0.0), ("synthetic", gain), ("oracle", 0.11)):
            recall, false = 0.61 + lead - less, (1 - specificity) * 0.999
            found[arm] = {
                "recall": {"mean": recall, "ci95": [recall - 0.05, recall + 0.05]}, "specificity": specificity,
                "precision": recall * 0.001 / (recall * 0.001 + false), "false_alarms_per_find": false / (recall * 0.001),
            }  # fmt: skip
        return found

    rows = [("validation", 0.95, 0.0, 0.945), ("test", 0.95, 0.01, 0.95), ("test", 0.99, 0.3, 0.99)]
    told = [
        {"thresholds": thresholds, "specificity": wanted, "best_control": "oversampled", "arms": results(less, reached)}
        for thresholds, wanted, less, reached in rows
    ]
    last = {"thresholds": "test", "specificity": 0.999, "best_control": "oversampled", "arms": None}
    return {"prevalence": 0.001, "ordinary": ordinary, "rows": [*told, last]}
