"""What diagnoses say of why a network learns or not."""

from typing import Any

from deepnets.reporting import mechanisms


def layers(*rows: tuple[str, float, float]) -> dict[str, Any]:
    return {
        "layers": [
            {"name": name, "kind": "Conv2D", "activation": out, "gradient": gradient, "weight": 1.0}
            for name, out, gradient in rows
        ],
        "batch_norms": [],
        "batch": {"accuracy": 0.1},
        "moving": {"accuracy": 0.1},
    }


def diagnosis(start: Any, then: Any, end: Any) -> dict[str, Any]:
    moments = {"start": start, "after 100 steps": then, "end": end}
    return {"images": 128, "seeds": {"0": moments}}


def test_cause_of_a_network_without_norms_is_what_flows_through_it() -> None:
    start = layers(("a", 0.2, 1e-3), ("b", 0.004, 1e-4), ("b_gate", 9, 9), ("logits", 0.5, 0.1))
    then = layers(("a", 0.2, 3e-5), ("b", 0.004, 1e-4), ("logits", 0.5, 0.1))
    measured = diagnosis(start, then, then)
    assert mechanisms.describe_diagnoses({"row": measured, "other": measured}) == (
        "from the first convolution to the last, activations of row go from 0.2 to 0.004 at the "
        "start, and after 100 steps the first kernel's gradient is 3e-05; other from 0.2 to 0.004, "
        "then 3e-05"
    )


def test_cause_of_a_network_with_norms_is_what_its_averages_do() -> None:
    then = layers() | {
        "batch_norms": [{"name": "x", "mean_gap": 0.5, "deviation_ratio": 1.0}],
        "batch": {"accuracy": 0.93},
        "moving": {"accuracy": 0.1},
    }
    end = then | {"batch": {"accuracy": 0.98}, "moving": {"accuracy": 0.5}}
    measured = diagnosis(then, then, end)
    assert mechanisms.describe_diagnoses({"row": measured, "other": measured}) == (
        "after 100 steps, row gets 0.93 of 128 validation images right with their own statistics "
        "and 0.10 with its moving averages, at the end 0.98 and 0.50; other 0.93 and 0.10, at the "
        "end 0.98 and 0.50"
    )


def test_what_goes_on_from_a_highway_layer_is_what_its_connection_puts_out() -> None:
    moment = layers(("a", 0.2, 1e-3), ("a_gate", 9, 9), ("logits", 0.5, 0.1))
    moment["layers"].append({"name": "a_highway", "kind": "Add", "activation": 0.7})
    shown = [
        (layer["name"], layer["activation"], layer["gradient"]) for layer in mechanisms.path(moment)
    ]
    assert shown == [("a", 0.7, 1e-3), ("logits", 0.5, 0.1)]


def test_of_several_seeds_the_median_is_told() -> None:
    def seed(first: float, gradient: float | None) -> dict[str, Any]:
        moment = layers(("a", first, gradient), ("b", 0.004, 1e-4), ("logits", 0.5, 0.1))  # type: ignore[arg-type]
        return {"start": moment, "after 100 steps": moment, "end": moment}

    seeds = {"0": seed(0.2, 1e-3), "1": seed(0.9, 2e-3), "2": seed(0.1, 5e-3)}
    told = mechanisms.describe_diagnoses({"row": {"images": 128, "seeds": seeds}})
    assert "go from 0.2 to 0.004 at the start" in told
    assert told.endswith("gradient is 0.002 (medians of 3 seeds)")
    seeds["2"] = seed(0.1, None)
    assert "gradient is nan" in mechanisms.describe_diagnoses(
        {"row": {"images": 128, "seeds": seeds}}
    )


def test_a_diagnosis_without_its_end_says_nothing_of_it() -> None:
    moment = layers() | {"batch_norms": [{}], "batch": {"accuracy": 0.93}}
    seeds = {"0": {"start": moment, "after 100 steps": moment}}
    assert mechanisms.describe_diagnoses({"row": {"images": 128, "seeds": seeds}}) == (
        "after 100 steps, row gets 0.93 of 128 validation images right with their own statistics "
        "and 0.10 with its moving averages"
    )
