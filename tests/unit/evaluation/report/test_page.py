"""The report says what the result says, in words too, and holds everything it shows."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Answer

from miclip.cli.app import app
from miclip.evaluation.figures import ByScale
from miclip.evaluation.measures import Cost, Costs, Description, Evidence, OpenVocabulary, Verdict
from miclip.evaluation.report import render
from miclip.evaluation.report.charts import Bar, bar_chart, ticks
from miclip.evaluation.report.gallery import SILENT, SURE, choose
from miclip.evaluation.report.templates import macro
from miclip.evaluation.report.verdicts import sentence
from miclip.evaluation.report.words import signed
from miclip.evaluation.result import Result, Target, Unseen, read_result, write_result
from miclip.names import UnitName
from miclip.retrieval.results import Description as UnitDescription
from miclip.retrieval.results import ScoredConcept
from tests.unit.evaluation.report.made import (
    Page,
    evaluation,
    localization,
    null_figure,
    units,
    unseen_units,
    verdict,
)

HOSTILE = "\"><script>alert('1')</script><img src=http://evil.test/x>"


def test_no_name_in_a_result_becomes_markup(target: Target) -> None:
    unseen = unseen_units(6.0, localization({}, verdict(1.0, best="filter")))
    described = OpenVocabulary(
        size=5, methods={"default": Description(exact=None, similarity={"clip": null_figure(1, 0)})}
    )
    places = (*target.places, units("logits", descriptions={"nouns": described}))
    cost = Costs(layer="mid", units=1, images=1, needs={"filter": ("encoder",)},
                 steps={"encoder": Cost(seconds=1.0, gflop=1.0, peak_mb=1.0)})  # fmt: skip
    full = evaluation(target, places=places, cost=cost, unseen=Unseen(classes=("okapi",), places=(unseen,)))
    text = full.model_dump_json()
    names = ("toy", "mid", "clip_dissect", "CLIP-Dissect", "predictions", "topk", "synonyms", "nouns", "clip", "okapi",
             "encoder", "9 images of one")  # fmt: skip
    for name in names:
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', json.dumps(HOSTILE + name))
    page = Page(render(Result.model_validate_json(text), []))
    assert not page.all("script")
    assert not page.all("img")
    assert all(page.said.count(f"evil.test/x>{name}") >= 1 for name in names if name not in ("clip_dissect", "topk"))


def test_nothing_leaves_the_file_and_no_script_may_run(result: Result) -> None:
    text = render(result, [])
    page = Page(text)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for tag in ("script", "link", "iframe", "object", "base", "form"):
        assert not page.all(tag)
    assert not re.search(r"https?:|@import|url\(|\bon\w+=", text)
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))


def test_the_same_result_gives_the_same_report(result: Result) -> None:
    assert render(result, []) == render(Result.model_validate_json(result.model_dump_json()), [])


@pytest.mark.parametrize(
    ("said", "means", "words"),
    [
        (
            verdict(1.2, 0.8),
            "won",
            "the best, CLIP-Dissect, by 1.2 points (95 % interval +0.4 to +2.0)",
        ),
        (verdict(1.2, 1.6), "open", "not surely of the best, CLIP-Dissect: by 1.2 points (95 % interval −0.4 to +2.8)"),
        (verdict(-0.5), "lost", "Does not beat CLIP-Dissect: 0.5 points behind"),
        (verdict(0.0), "lost", "Does not beat CLIP-Dissect: level with it"),
        (verdict(1.0, share=0.89), "open", "89 % of the white-box oracle, less than the 90 % aimed at"),
        (verdict(1.0, share=0.97), "open", "97 % of the white-box oracle."),
        (verdict(1.0, share=1.2), "open", "more than the white-box oracle."),
        (verdict(-1.0, share=-0.001), "lost", "Reaches 0 % of the white-box oracle, less"),
        (verdict(1.0, best="unheard_of"), "open", "of the best, unheard of:"),
    ],
)
def test_a_verdict_is_said_in_words(result: Result, said: Verdict, means: str, words: str) -> None:
    assert said.outcome == means
    assert words in sentence(result, said)


def test_where_the_default_does_not_beat_a_baseline_the_report_says_so(result: Result) -> None:
    page = Page(render(result, []))
    assert "beats every baseline in 0 of 8 comparisons" in page.said
    assert "not surely in 4, and does not beat the best baseline in 4. Each" in page.said
    assert page.said.count("Does not beat z-scored activation: 0.8 points behind") == 4
    assert page.said.count("Reaches 50 % of the white-box oracle, less than the 90 % aimed at") == 4
    assert page.said.count("Ahead of every baseline, but not surely of the best, z-scored activation: by 0.8") == 4


def test_what_simple_baselines_win_comes_before_everything_else(result: Result) -> None:
    said = Page(render(result, [])).said
    first = said.index("Where do simple baselines win?")
    assert first < said.index("Does the default beat the baselines?")
    assert "judged by what units are active for: a simple baseline wins in 2 of 2 places" in said
    assert "Labels of all units, judged by what units drive: no simple baseline wins in any of 2 places." in said


def test_places_are_neurons_features_and_logits(target: Target) -> None:
    assert [place.title for place in target.places] == ["mid, neurons", "mid, features", "logits"]
    assert [place.name for place in target.places] == ["mid", "mid/dictionaries/topk", "logits"]


def test_the_report_says_what_each_method_knows_and_what_images_were_used(result: Result) -> None:
    said = Page(render(result, [])).said
    assert "What each method knows random units nothing z-scored activation predictions CLIP-Dissect the text" in said
    assert "Judged on 9 images of one; labels are made from 8 images of another." in said


def test_figures_of_every_method_are_in_the_page_with_their_intervals(result: Result) -> None:
    page = Page(render(result, []))
    for said in ("83.2 %", "75.0 %", "45.5 %", "87.1 %", "random units", "+6.0", "+5.0 to +7.0", "−12.0",
                 "−13.0 to −11.0", "class names", "tag synonyms", "mid, features"):  # fmt: skip
        assert said in page.said, said
    assert "No pictures" in page.said


def test_agreement_stands_with_its_interval_and_its_null(result: Result) -> None:
    said = Page(render(result, [])).said
    assert re.search(
        r"Agreement of label and activation .* mid, features correlation cosine AUPRC F1 IoU miclip's label", said
    )
    assert "0.310 0.290 to 0.340 null 0.020" in said


def test_descriptions_over_open_vocabularies_are_shown(target: Target) -> None:
    described = Description(exact=None, similarity={"clip": null_figure(0.87, 0.26)})
    nouns = OpenVocabulary(size=5000, methods={"filter": described})
    said = Page(render(evaluation(target, places=(units("logits", descriptions={"nouns": nouns}),)), [])).said
    assert said.count("Descriptions over open vocabularies") == 1
    table = "exact CLIP's text tower filter (the paper) – 0.870 0.850 to 0.900 null 0.260"
    assert f"nouns, 5 000 concepts {table}" in said


def test_unseen_classes_have_verdicts_and_charts(target: Target) -> None:
    charts = len(Page(render(evaluation(target), [])).all("svg"))
    found = localization({"attribution": 2, "filter": 3}, verdict(-0.8, best="filter"))
    place = unseen_units(6.25, found)
    page = Page(render(evaluation(target, unseen=Unseen(classes=("okapi", "zeppelin"), places=(place,))), []))
    assert "Hidden: okapi, zeppelin" in page.said
    assert len(page.all("svg")) == charts + 2
    assert "does not beat the best baseline in 6. Each" in page.said
    assert "mid, neurons, names of unseen classes, ×2. Does not beat filter (the paper): 0.8 points" in page.said


def test_what_is_trusted_stands_beside_what_it_reaches(target: Target) -> None:
    sure = ByScale[Verdict](scale_2=verdict(1.0, share=0.97), scale_0=verdict(1.0, share=28.68))
    evidence = Evidence(trusted_share=74.2, trusted=sure, doubtful=None)
    place = units(localizations={"synonyms": localization({}, verdict(1.0), evidence)})
    hidden = unseen_units(6.25, localization({}, verdict(1.0)))
    unseen = Unseen(classes=("okapi",), places=(hidden,))
    said = Page(render(evaluation(target, places=(place,), unseen=unseen), [])).said
    assert "mid, neurons tag synonyms 74 % 97 % – – –" in said, (
        "28 times an oracle is no measure, and none was doubtful"
    )
    assert "mid, neurons names of unseen classes 6 % – – – –" in said
    without = Page(render(evaluation(target, places=(place,)), [])).said
    assert "mid, neurons tag synonyms 74 %" in without
    assert "unseen classes" not in without


def test_the_cost_of_a_method_is_that_of_all_its_steps(target: Target) -> None:
    steps = {"activations": (2.5, 10.0, 300.0), "encoder": (4.0, 1.5, 100.0), "clip_dissect": (0.25, 0.1, 50.0)}
    made = {name: Cost(seconds=s, gflop=g, peak_mb=m) for name, (s, g, m) in steps.items()}
    needs = {"filter": ("activations", "encoder"), "clip_dissect": ("activations",)}
    cost = Costs(layer="mid", units=12, images=2560, steps=made, needs=needs)
    said = Page(render(evaluation(target, cost=cost), [])).said
    assert "filter (the paper) 6.50 11.5 300 activations, encoder" in said
    assert "CLIP-Dissect 2.75 10.1 300 activations, CLIP-Dissect" in said
    assert "encoder 4.00 1.5 100" in said


def test_every_table_has_headers_and_every_chart_a_title(result: Result) -> None:
    page = Page(render(result, []))
    assert all(header.get("scope") in ("row", "col", "colgroup") for header in page.all("th"))
    assert page.all("svg") and all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))


def test_bars_and_whiskers_are_as_long_as_their_values() -> None:
    bars = [Bar("a", 4.0, 3.0, 5.0, -1.0, "ours"), Bar("b", -2.0, -2.5, -1.5, 0.0, "default")]
    page = Page(macro("charts.html.jinja", "bars", "t", bar_chart(bars, (-5.0, 5.0))))
    first, second = page.all("rect")
    assert float(first["width"] or 0) == pytest.approx(2 * float(second["width"] or 0), abs=0.02)
    zero = float(first["x"] or 0)
    assert float(second["x"] or 0) + float(second["width"] or 0) == pytest.approx(zero, abs=0.02)
    unit = float(first["width"] or 0) / 4
    left, right = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", page.all("path")[0]["d"] or "").groups()  # type: ignore[union-attr]
    assert (float(left) - zero, float(right) - zero) == pytest.approx((3 * unit, 5 * unit), abs=0.1)
    point, at_zero = page.all("circle")
    assert float(at_zero["cx"] or 0) == pytest.approx(zero, abs=0.02)
    assert float(point["cx"] or 0) - zero == pytest.approx(-unit, abs=0.1)
    assert "+4.0" in page.said and "−2.0" in page.said


@pytest.mark.parametrize(("low", "high"), [(-1, 8), (-20, 1), (0, 0.3), (-130, 900)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    steps = {round(b - a, 9) for a, b in pairwise(found)}
    assert 2 <= len(found) <= 7 and len(steps) == 1 and low <= found[0] and found[-1] <= high
    assert re.fullmatch(r"[125]0*|0\.0*[125]0*", f"{steps.pop():g}")
    assert 0 in found


def test_a_change_of_nothing_has_no_sign() -> None:
    assert [signed(value) for value in (0.0, -0.04, 0.04, -0.06, 1)] == ["0.0", "0.0", "0.0", "−0.1", "+1.0"]


def test_the_gallery_takes_even_steps_from_the_surest_to_the_least_sure_then_silent_ones() -> None:
    def unit(at: int) -> UnitDescription:
        concept = ScoredConcept(0, "dog", 0.5, 0.1, 1.0)
        return UnitDescription(
            name=UnitName("m", "mid", at),
            concepts=(concept,),
            active_for=(),
            suppresses=(),
            margin=0.1,
            null_percentile=50.0,
            abstained=at % 4 == 0,
            reason="" if at % 4 else "chance",
            embedding="causal",
            ranking="causal_score",
            contrast=float(at),
            stability=None,
            confidence=None,
            promise=None,
            atlas="atlases/a",
        )

    chosen = [found.unit for found in choose([unit(at) for at in range(1, 100)])]
    sure, silent = chosen[:SURE], chosen[SURE:]
    assert (sure[0], sure[-1], len(sure)) == (99, 1, SURE) and sure == sorted(sure, reverse=True)
    assert (silent[0], silent[-1], len(silent)) == (96, 4, SILENT) and all(at % 4 == 0 for at in silent)
    assert [found.unit for found in choose([unit(3)])] == [3]


def run(*arguments: str) -> Answer:
    return CliRunner().invoke(app, list(arguments))


def test_a_saved_result_becomes_a_page(result: Result, tmp_path: Path) -> None:
    saved, out = tmp_path / "result.json", tmp_path / "report.html"
    write_result(result, saved)
    answered = run("report", str(saved), "--out", str(out), "--json")
    assert answered.exit_code == 0, answered.stderr
    assert json.loads(answered.stdout) == {"file": str(out), "bytes": out.stat().st_size, "atlases": {}}
    assert out.read_text("utf-8") == render(read_result(saved), [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "has no version"),
        ("{}", "has no version"), ('{"targets": {}}', "an older miclip must be measured again"),
        ('{"version": 1}', "has version 1; this miclip reads version 2"), ('{"version": true}', "has version True"),
        ('{"version": 2, "methods": [], "targets": {}}', "targets: Dictionary should have at least 1 item"),
        ('{"version": 2, "methods": [], "targets": {"x": 3}}', "targets.x: "),
        ('{"version": 2, "methods": [], "targets": {}, "more": 1}', "not a result"),
        ('{"version": 2, "targets": {"x": {"held_out_top1": "83"}}}', "methods: Field required"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    saved, out = tmp_path / "result.json", tmp_path / "report.html"
    if content is not None:
        saved.write_text(content)
    answered = run("report", str(saved), "--out", str(out), "--json")
    assert (answered.exit_code, answered.stdout) == (1, "")
    assert said in answered.stderr and "miclip evaluate --json" in answered.stderr and not out.exists()


@pytest.mark.parametrize(("out", "said"), [("x.pdf", ".html"), ("nowhere/x.html", "nowhere"), ("taken.html", "taken")])
def test_a_page_that_cannot_be_written_is_refused(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_result(result, Path("result.json"))
    Path("taken.html").mkdir()
    answered = run("report", "result.json", "--out", out)
    assert (answered.exit_code, answered.stdout) == (1, "") and said in answered.stderr


@pytest.mark.parametrize("page", ["x.pdf", "nowhere/x.html"])
def test_an_evaluation_checks_the_reports_name_before_any_work(page: str) -> None:
    answered = run("evaluate", "--report", page, "--model", "unheard-of")
    assert answered.exit_code == 1 and "--report" in answered.stderr and "unheard-of" not in answered.stderr
