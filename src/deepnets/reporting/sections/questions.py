"""What the rows say to a study's questions, with a figure each; the rules, and what they can."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deepnets.base import project
from deepnets.config.sections import Question, Report, rows_of
from deepnets.records.significance import share_interval
from deepnets.reporting import mechanisms, page, seeds, tables
from deepnets.reporting import questions as rules
from deepnets.reporting.comparisons import p_text
from deepnets.reporting.questions import Answer, Compared, GoalAnswer
from deepnets.reporting.sections.results import Styles, Trained

Pilot = Mapping[str, Sequence[float]]

_FIGURE = "![Test accuracy of every seed, a line a row]({}.png)"


def answers(
    answered: Sequence[Answer],
    goal: GoalAnswer | None,
    trained: Trained,
    styles: Styles,
    diagnoses: Mapping[str, dict[str, Any]],
    pilot: Pilot,
) -> list[str]:
    parts = ["## The questions"]
    if pilot:
        parts.append(
            "Every point of a figure is a seed, a line the mean of a row. Hollow points are the "
            "pilot: seeds that were known before the questions and rules were fixed. They decide "
            "nothing. A row in brackets is one that validation accuracy chose another over."
        )
    for number, answer in enumerate(answered, start=1):
        rows = _rows(answer.question)
        chosen = [side.runs.name for pair in answer.compared for side in (pair.row, pair.than)]
        parts += _part(
            f"question-{number}",
            answer.question.question,
            answer.word,
            answer.numbers,
            _describe_known(answer.question, diagnoses),
            seeds.lines(rows, chosen, trained, styles, pilot),
        )
    if goal:
        parts += _part(
            "goal",
            goal.goal.question,
            goal.word,
            [goal.numbers],
            page.escape_markdown(_sentence(goal.goal.known or "")),
            seeds.lines(
                goal.goal.rows,
                [goal.chosen.runs.name] if goal.chosen else [],
                trained,
                styles,
                pilot,
            ),
            goal.goal.above,
        )
    return parts


def by_which_rules(
    report: Report, answered: Sequence[Answer], pilot: Pilot, power: pd.DataFrame
) -> list[str]:
    count = sum(len(question.ahead) for question in report.questions)
    table = pairs(answered)
    parts = [
        "## By which rules",
        "Fixed, with the questions, the rows and their seeds, before any of the runs:",
        "\n".join(f"- {rule}" for rule in rules.rules(report, count)),
    ]
    if len(table):
        shown = table.assign(
            **{key: table[key].map(p_text) for key in ("p of yes", "p of no")},
            difference=table["difference"].map(lambda difference: rules.points([difference])),
            **{"at most": table["at most"].map(lambda limit: f"{limit:.4f}" if limit else "")},
        )
        parts += [
            "Every pair, with the p-value of what a yes and a no reject, and what the smaller may "
            "be at most where it is small enough (answers.csv has them unrounded):",
            tables.markdown(shown),
        ]
    if pilot:
        rows = [
            {"row": row, "pilot": ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)}
            for row, accuracies in pilot.items()
        ]
        parts += [
            "### The pilot",
            "Test accuracies of the seeds that were known beforehand, made by "
            "`python benchmarks/pilot.py`. The questions come from them, no answer does.",
            tables.markdown(pd.DataFrame(rows)),
        ]
    return parts + (_power(power) if len(power) else [])


def pairs(answered: Sequence[Answer]) -> pd.DataFrame:
    """A row a pair that was run, numbers as numbers."""
    return pd.DataFrame([_pair(pair) for answer in answered for pair in answer.compared])


def _pair(pair: Compared) -> dict[str, Any]:
    learning = pair.pair.by == "learning"
    intervals = (
        [share_interval(side.learned, len(side.accuracies)) for side in (pair.row, pair.than)]
        if learning
        else [pair.interval]
    )
    return {
        "row": pair.row.runs.name,
        "than": pair.than.runs.name,
        "by": pair.pair.by,
        "learned": f"{pair.row.learned} and {pair.than.learned} of {len(pair.row.accuracies)}",
        "difference": pair.difference,
        "95 % interval": " and ".join(
            f"{low:.2f} to {high:.2f}" if learning else rules.points((low, high))
            for low, high in filter(None, intervals)
        ),
        "p of yes": pair.judgement.p_yes,
        "p of no": pair.judgement.p_no,
        "at most": pair.judgement.limit,
        "says": pair.judgement.word,
    }


def _power(power: pd.DataFrame) -> list[str]:
    pairs, lists = power[power["asks"] != "list"], power[power["asks"] == "list"]
    counts = sorted(pairs["seeds"].unique())
    rows = []
    for (asks, scenario), group in pairs.groupby(["asks", "scenario"], sort=False):
        row = {"asks": asks, "two rows": scenario, "right": group["right"].iloc[0]}
        for seeds_, yes, no in group[["seeds", "yes", "no"]].itertuples(index=False):
            row[f"{seeds_} seeds"] = f"{yes:.2f}, {no:.2f}"
        row["wrong at most"] = f"{group['wrong'].max():.4f}"
        needed = group["needed"].iloc[0]
        row["seeds needed"] = "" if pd.isna(needed) else f"{needed:.0f}"
        rows.append(row)
    listed = lists.assign(
        **{key: lists[key].map("{:.2f}".format) for key in ("yes", "no")},
        wrong=lists["wrong"].map("{:.4f}".format),
    ).rename(columns={"scenario": "the list's pairs", "wrong": "any wrong answer"})
    return [
        "### What the rules can do",
        "Simulated before the runs by `python benchmarks/power.py`: how often a pair says yes and "
        f"no with {', '.join(map(str, counts))} seeds a row (what is left is undecided), at the "
        "first and hardest step of Holm's method, and the seeds that are needed to say what is "
        "right four times in five (none: more than 20, or nothing would be right). Spreads are "
        "standard deviations over seeds, the smallest, middle and largest of the pilot's rows.",
        tables.markdown(pd.DataFrame(rows)),
        "Whole lists, judged together: the share of pairs that say yes and no, and of lists with "
        "any wrong answer. Rows that are alike on average and spread differently are not what the "
        "rank test takes for alike, so these lines show what that costs.",
        tables.markdown(
            listed[["the list's pairs", "seeds", "yes", "no", "any wrong answer"]].astype(str)
        ),
    ]


def _part(
    stem: str,
    question: str,
    word: str,
    numbers: Sequence[str],
    known: str,
    lines: Sequence[seeds.Line],
    goal: float | None = None,
) -> list[str]:
    seeds.draw(lines, project.REPORTS / stem, goal)
    rows = " ".join(line.row for line in lines)
    said = f"**{word.capitalize()}.**"
    text = [f"{said} {' '.join(numbers)} {known}".rstrip()]
    if len(numbers) > 1:
        text = [f"{said} {known}".rstrip(), "\n".join(f"- {sentence}" for sentence in numbers)]
    return [
        f"### {page.escape_markdown(question)}",
        *text,
        _FIGURE.format(stem),
        f"Trained and tested again by `deepnets grid --rows {rows}`.",
    ]


def _rows(question: Question) -> list[str]:
    """All rows that a question asks about, each once."""
    sides = [side for pair in question.ahead for side in (pair.row, pair.than)]
    return list(dict.fromkeys(row for side in sides for row in rows_of(side)))


def _describe_known(question: Question, diagnoses: Mapping[str, dict[str, Any]]) -> str:
    shown = {name: diagnoses[name] for name in question.diagnosed if name in diagnoses}
    said = [mechanisms.describe_diagnoses(shown), question.known]
    return page.escape_markdown(_sentence("; ".join(filter(None, said))))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
