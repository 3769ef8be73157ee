"""The report says what the result says, in words too, and holds everything it shows."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from miclip.cli.app import app
from miclip.names import UnitName
from miclip.report import read_result, render
from miclip.report.anything import tables
from miclip.report.charts import Bar, bar_chart, ticks
from miclip.report.gallery import SILENT, SURE, choose
from miclip.report.markup import Html, el
from miclip.report.result import places
from miclip.report.verdicts import outcome, sentence
from miclip.report.words import signed
from miclip.retrieval.results import Description, ScoredConcept

METHODS = ("random", "shuffled", "z_mean_activation", "clip_dissect", "filter", "attribution", "oracle")
VOID = {"meta", "img", "br", "hr"}


def change(target: float, specificity: float = 0.8) -> dict[str, Any]:
    return {
        "target": target, "target_interval": [target - 1, target + 1], "others": -0.2, "others_interval": [-0.3, -0.1],
        "specificity": specificity, "specificity_interval": [specificity - 0.1, specificity + 0.1],
    }  # fmt: skip


def methods(**gains: float) -> dict[str, Any]:
    """Doubling gains the points given (1 by default), removing loses twice as many."""
    return {name: {"scale_2": change(gains.get(name, 1)), "scale_0": change(-2 * gains.get(name, 1))}
            for name in METHODS}  # fmt: skip


@pytest.fixture
def result() -> dict[str, Any]:
    units = {
        "labels": {"default": 95.0, "filter": 60.0, "clip_dissect": 70.0},
        "localization": methods(attribution=6, oracle=6, z_mean_activation=5),
        "synonyms": methods(attribution=3, oracle=6, z_mean_activation=4),
    }
    features = {
        **units,
        "dictionary": "topk",
        "agreement": {"default": {"correlation": 0.31, "null": {"correlation": 0.02}}},
    }
    return {
        "targets": {
            "toy": {
                "held_out_top1": 83.25,
                "layers": {
                    "mid": {**units, "neurons": units, "features": features},
                    "logits": {"labels": {"default": 100.0}, "neurons": {"labels": {"default": 100.0}}},
                },
            }
        },
        "cost": {"alignment": {"seconds": 12.5, "flops": 3_000_000_000}, "clip_dissect": {"seconds": 1.25}},
    }  # fmt: skip


class Page(HTMLParser):
    """Elements, and text by element; refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def test_what_is_not_markup_is_escaped() -> None:
    made = el("b", "<i>&", Html("<i>x</i>"), ["'", None, 3], class_='"><script>', data_x=True, hidden=False, width=2.5)
    assert made == (
        '<b class="&quot;&gt;&lt;script&gt;" data-x width="2.5">&lt;i&gt;&amp;<i>x</i>&#x27;3</b>'
    )  # fmt: skip


HOSTILE = "\"><script>alert('1')</script><img src=http://evil.test/x>"


def test_no_name_in_a_result_becomes_markup(result: dict[str, Any]) -> None:
    text = json.dumps(result).replace('"toy"', json.dumps(HOSTILE)).replace('"mid"', json.dumps(HOSTILE))
    text = text.replace('"clip_dissect"', json.dumps(HOSTILE)).replace('"cost"', json.dumps(HOSTILE))
    text = text.replace('"topk"', json.dumps(HOSTILE)).replace('"synonyms"', json.dumps(HOSTILE))
    page = Page(render(json.loads(text), []))
    assert not page.all("script") and not page.all("img")
    assert page.said.count("alert(") > 5


def test_nothing_leaves_the_file_and_no_script_may_run(result: dict[str, Any]) -> None:
    text = render(result, [])
    page = Page(text)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for tag in ("script", "link", "iframe", "object", "base", "form"):
        assert not page.all(tag)
    assert not re.search(r"https?:|@import|url\(|\bon\w+=", text)
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))


def test_the_same_result_gives_the_same_report(result: dict[str, Any]) -> None:
    assert render(result, []) == render(json.loads(json.dumps(result)), [])


@pytest.mark.parametrize(
    ("verdict", "means", "said"),
    [
        ({"lead": 1.2, "lead_interval": [0.4, 2.0]}, "won", "every baseline; the best, CLIP-Dissect, by 1.2 points"),
        ({"lead": 1.2, "lead_interval": [-0.4, 2.8]}, "open", "not surely of the best, CLIP-Dissect: by 1.2 points"),
        ({"lead": 1.2}, "open", "no interval was measured"),
        ({"lead": -0.5, "lead_interval": [-1.0, 0.1]}, "lost", "Does not beat CLIP-Dissect: 0.5 points behind"),
        ({"lead": 0.0}, "lost", "Does not beat CLIP-Dissect: level with it"),
        ({"lead": 1.0, "share_of_oracle": 0.89}, "open", "89 % of the white-box oracle, less than the 90 % aimed at"),
        ({"lead": 1.0, "share_of_oracle": 0.97}, "open", "97 % of the white-box oracle."),
    ],
)  # fmt: skip
def test_a_verdict_is_said_in_words(verdict: dict[str, Any], means: str, said: str) -> None:
    verdict = {"best_baseline": "clip_dissect", **verdict}
    assert outcome(verdict) == means
    assert said in sentence(verdict)


def test_where_the_default_does_not_beat_a_baseline_the_report_says_so(result: dict[str, Any]) -> None:
    page = Page(render(result, []))
    assert "does not beat the best baseline in 4. Each" in page.said
    assert page.said.count("Does not beat z-scored activation: 0.8 points behind") == 2  # 3 against 4, × 0.8
    assert page.said.count("Does not beat z-scored activation: 1.6 points behind") == 2
    assert page.said.count("Reaches 50 % of the white-box oracle, less than the 90 % aimed at") == 4
    assert page.said.count("Ahead of every baseline, but not surely of the best, z-scored activation: by 0.8") == 2


def test_a_verdict_of_the_evaluation_itself_counts(result: dict[str, Any]) -> None:
    said = {"best_baseline": "filter", "lead": 9.5, "lead_interval": [9.0, 10.0], "share_of_oracle": 0.5}
    result["targets"]["toy"]["layers"]["mid"]["neurons"]["verdict"] = {"names": {"scale_2": said}}
    page = Page(render(result, []))
    assert "every baseline; the best, filter (the paper), by 9.5 points (95 % interval +9.0 to +10.0)" in page.said


def test_places_are_neurons_and_features_and_old_results_are_read(result: dict[str, Any]) -> None:
    found = list(places(result["targets"]["toy"]))
    assert [place.title for place in found] == ["mid, neurons", "mid, features", "logits"]
    assert [place.name for place in found] == ["mid", "mid/dictionaries/topk", "logits"]
    assert list(found[0].localizations()) == ["localization", "synonyms"]
    old = copy.deepcopy(result)
    del old["targets"]["toy"]["layers"]["mid"]["neurons"], old["targets"]["toy"]["layers"]["mid"]["features"]
    assert [place.title for place in places(old["targets"]["toy"])] == ["mid, neurons", "logits"]


def test_figures_of_every_method_are_in_the_page_with_their_intervals(result: dict[str, Any]) -> None:
    page = Page(render(result, []))
    for said in ("83.2 %", "95.0 %", "another query's units", "+6.0", "+5.0 to +7.0", "−12.0", "−13.0 to −11.0",
                 "class names", "synonyms", "mid, features"):  # fmt: skip
        assert said in page.said, said
    assert "No pictures" in page.said


def test_sections_without_a_picture_become_tables(result: dict[str, Any]) -> None:
    page = Page(render(result, []))
    assert "What it costs" in page.said and "12.5" in page.said and "3 000 000 000" in page.said
    assert re.search(r"Agreement of label and activation .* mid, features", page.said)
    assert re.search(r"correlation .*0\.310 null 0\.020", page.said)


def test_what_was_measured_of_a_layer_as_a_whole_is_shown_once(result: dict[str, Any]) -> None:
    words = {"nouns": {"size": 5000, "methods": {"default": {"clip": 0.87, "clip_interval": [0.85, 0.9]}}}}
    result["targets"]["toy"]["layers"]["logits"]["description"] = words
    page = Page(render(result, []))
    assert page.said.count("Descriptions over open vocabularies") == 1
    assert "0.870 0.850 to 0.900" in page.said and "5 000" in page.said


def test_unseen_classes_have_verdicts_and_charts(result: dict[str, Any]) -> None:
    charts = len(Page(render(result, [])).all("svg"))
    unseen = {"classes": ["okapi", "zeppelin"], "layers": {"mid": {"neurons": methods(attribution=2, filter=3)}}}
    result["targets"]["toy"]["unseen"] = unseen
    page = Page(render(result, []))
    assert "Hidden: okapi, zeppelin" in page.said and len(page.all("svg")) == charts + 2
    assert "does not beat the best baseline in 6. Each" in page.said
    assert "mid, neurons, names of unseen classes, ×2. Does not beat filter (the paper): 0.8 points" in page.said


def test_what_is_trusted_stands_beside_what_it_reaches(result: dict[str, Any]) -> None:
    shares = {scale: {"share_of_oracle": share} for scale, share in (("scale_2", 0.97), ("scale_0", 28.68))}
    evidence = {"synonyms": {"trusted_share": 74.2, "trusted": shares}}
    result["targets"]["toy"]["layers"]["mid"]["neurons"]["evidence"] = evidence
    unseen = {"classes": ["okapi"], "layers": {}, "trusted_share": {"mid": {"neurons": 6.25}}}
    result["targets"]["toy"]["unseen"] = unseen
    said = Page(render(result, [])).said
    assert "mid, neurons synonyms 74 % 97 % – – –" in said, "28 times an oracle is no measure, and none was doubtful"
    assert "mid, neurons names of unseen classes 6 % – – – –" in said


def test_the_cost_of_a_method_is_that_of_all_its_steps(result: dict[str, Any]) -> None:
    steps = {"activations": (2.5, 10.0, 300.0), "encoder": (4.0, 1.5, 100.0), "clip_dissect": (0.25, 0.1, 50.0)}
    needs = {"filter": ["activations", "encoder"], "clip_dissect": ["activations"]}
    result["targets"]["toy"]["cost"] = {
        "layer": "mid", "images": 2560, "needs": needs,
        "steps": {name: dict(zip(("seconds", "gflop", "peak_mb"), some, strict=True)) for name, some in steps.items()},
    }  # fmt: skip
    said = Page(render(result, [])).said
    assert "filter (the paper) 6.50 11.5 300 activations, encoder" in said
    assert "CLIP-Dissect 2.75 10.1 300 activations, CLIP-Dissect" in said


def test_any_nesting_becomes_tables_and_headings() -> None:
    page = Page(tables({"a": {"b": {"c": {"d": 1.0, "d_interval": [0.5, 1.5]}}}, "n": None, "ok": True, "l": [1, 2]}))
    assert page.said == "n – ok yes l 1, 2 a b d c 1.000 0.500 to 1.500"
    assert {"scope": "col"} in page.all("th") and {"scope": "row"} in page.all("th")


def test_every_table_has_headers_and_every_chart_a_title(result: dict[str, Any]) -> None:
    page = Page(render(result, []))
    assert all(header.get("scope") in ("row", "col", "colgroup") for header in page.all("th"))
    assert page.all("svg") and all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))


def test_bars_and_whiskers_are_as_long_as_their_values() -> None:
    bars = [Bar("a", 4.0, 3.0, 5.0, -1.0, "ours"), Bar("b", -2.0, -2.5, -1.5, None, "default")]
    page = Page(bar_chart("t", bars, (-5.0, 5.0)))
    first, second = page.all("rect")
    assert float(first["width"] or 0) == pytest.approx(2 * float(second["width"] or 0), abs=0.02)
    zero = float(first["x"] or 0)
    assert float(second["x"] or 0) + float(second["width"] or 0) == pytest.approx(zero, abs=0.02)
    unit = float(first["width"] or 0) / 4
    left, right = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", page.all("path")[0]["d"] or "").groups()  # type: ignore[union-attr]
    assert (float(left) - zero, float(right) - zero) == pytest.approx((3 * unit, 5 * unit), abs=0.1)
    (point,) = page.all("circle")
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
    def unit(at: int) -> Description:
        concept = ScoredConcept(0, "dog", 0.5, 0.1)
        return Description(
            name=UnitName("m", "mid", at),
            concepts=(concept,),
            margin=0.1,
            null_percentile=50.0,
            abstained=at % 4 == 0,
            embedding="causal",
            ranking="causal_score",
            contrast=float(at),
            stability=None,
            atlas="atlases/a",
        )

    chosen = [found.unit for found in choose([unit(at) for at in range(1, 100)])]
    sure, silent = chosen[:SURE], chosen[SURE:]
    assert (sure[0], sure[-1], len(sure)) == (99, 1, SURE) and sure == sorted(sure, reverse=True)
    assert (silent[0], silent[-1], len(silent)) == (96, 4, SILENT) and all(at % 4 == 0 for at in silent)
    assert [found.unit for found in choose([unit(3)])] == [3]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_saved_result_becomes_a_page(result: dict[str, Any], tmp_path: Path) -> None:
    saved, out = tmp_path / "result.json", tmp_path / "report.html"
    saved.write_text(json.dumps(result))
    answered = run("report", str(saved), "--out", str(out), "--json")
    assert answered.exit_code == 0, answered.stderr
    assert json.loads(answered.stdout) == {"file": str(out), "bytes": out.stat().st_size, "atlases": {}}
    assert out.read_text("utf-8") == render(read_result(saved), [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "not a result"),
        ("{}", "not a result"), ('{"targets": {}}', "not a result"), ('{"targets": {"x": 3}}', "not a result"),
        ('{"targets": {"x": {"held_out_top1": "a", "layers": {}}}}', "not a result"),
        ('{"targets": {"x": {"held_out_top1": 1, "layers": {"a": 1}}}}', "not a result"),
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
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("result.json").write_text(json.dumps(result))
    Path("taken.html").mkdir()
    answered = run("report", "result.json", "--out", out)
    assert (answered.exit_code, answered.stdout) == (1, "") and said in answered.stderr


@pytest.mark.parametrize("page", ["x.pdf", "nowhere/x.html"])
def test_an_evaluation_checks_the_reports_name_before_any_work(page: str) -> None:
    answered = run("evaluate", "--report", page, "--model", "unheard-of")
    assert answered.exit_code == 1 and "--report" in answered.stderr and "unheard-of" not in answered.stderr
