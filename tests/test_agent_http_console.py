"""The console's files and figures, asked for plainly."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from agent.http.console import static
from console_service import Served, served


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("console"), 300) as one:
        yield one


@pytest.fixture
def http(site: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=30) as client:
        yield client


def test_files_have_their_type_a_tag_and_a_strict_policy(http: httpx.Client) -> None:
    assert http.get("/console").headers["location"] == "/console/"
    page = http.get("/console/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    again = http.get("/console/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    script = http.get("/console/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    vendored = next(name for name in static() if name.endswith("uPlot.js"))
    assert "immutable" in http.get(f"/console/{vendored}").headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["figures.py", "../figures.py", "%2e%2e/figures.py", "/etc/passwd", "views", "vendor/"]
)
def test_nothing_else_is_served(http: httpx.Client, path: str) -> None:
    assert http.get(f"/console/{path}").status_code in (404, 405)


def test_no_file_breaks_the_policy_or_reaches_out() -> None:
    for name, file in static().items():
        text = file.body.decode()
        if name.endswith(".html"):
            assert " style=" not in text
            assert "<style" not in text
            assert "<script>" not in text
            assert " onclick" not in text
        if not name.startswith("vendor/") and name.endswith((".js", ".html", ".css")):
            assert "innerHTML" not in text
            assert "insertAdjacentHTML" not in text
            assert "eval(" not in text
            assert "//" not in text.replace("// ", "").replace("http://www.w3.org", ""), name
            assert len(text.splitlines()) <= 300


def test_the_vendored_library_keeps_its_licence() -> None:
    folder = next(name for name in static() if name.endswith("uPlot.js")).rpartition("/")[0]
    assert "MIT License" in static()[f"{folder}/LICENSE.txt"].body.decode()


def test_traffic_is_counted_by_system(http: httpx.Client, site: Served) -> None:
    found = http.get("/api/traffic", params={"hours": 240, "bins": 10}).json()
    counts = site.day.memory.counts()
    assert sum(row["n"] for row in found["bins"]) == counts["episodes"]
    assert sum(row["system1"] for row in found["bins"]) == counts["system1"]
    assert found["step_s"] == 86400
    assert {row["bin"] for row in found["bins"]} <= set(range(10))
    assert http.get("/api/traffic", params={"hours": 0}).status_code == 400


def test_automaticity_has_every_skill_and_version(http: httpx.Client, site: Served) -> None:
    found = http.get("/api/automaticity").json()
    assert [one["name"] for one in found["adapters"]] == [None, *(adapter.name for adapter in site.adapters)]
    sums = next(one for one in found["skills"] if one["skill"] == "sums")
    assert sums["state"] == "automatic"
    assert sums["examined"][site.adapters[1].name]["after"] == 0.71
    assert 0 < sums["served"][""]["system1_share"] < 1
    assert found["forgetting"]["acc"] > 0.4


def test_a_threshold_is_set_and_taken_back(http: httpx.Client) -> None:
    body = {"skill": "sums", "value": 0.7, "why": "to see", "max_disagreement": 0.1}
    set_to = http.post("/api/threshold", json=body).json()
    assert (set_to["before"], set_to["value"], set_to["who"]) == (0.85, 0.7, "local")
    found = http.get("/api/thresholds").json()
    assert found["in_force"]["sums"]["value"] == 0.7
    assert {name: change["id"] for name, change in found["undo"].items()} == {"*": set_to["id"], "sums": set_to["id"]}
    refused = http.post("/api/threshold/undo", json={"skill": "dates"})
    assert (refused.status_code, "for 'dates' by hand" in refused.json()["error"]["message"]) == (404, True)
    assert http.post("/api/threshold/undo", json={"why": "seen", "skill": "sums"}).json()["now"] == 0.85
    assert http.post("/api/threshold/undo", json={}).status_code == 404


def test_a_threshold_chosen_on_another_adapters_log_is_refused(http: httpx.Client, site: Served) -> None:
    older, live = (adapter.name for adapter in site.adapters)
    for adapter in (older, "base"):
        said = http.post("/api/threshold", json={"skill": "sums", "value": 0.7, "why": "to see", "adapter": adapter})
        assert said.status_code == 409
        assert f"the log of {adapter}, but {live} answers now" in said.json()["error"]["message"]
    said = http.post("/api/threshold", json={"skill": "sums", "value": 0.7, "why": "to see", "adapter": live})
    assert said.status_code == 200
    assert http.post("/api/threshold/undo", json={"why": "seen"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"skill": "sums", "value": 1.5, "why": "x"}, "value"),
        ({"skill": "sums", "value": 0.5, "why": ""}, "why"),
        ({"skill": "sum", "value": 0.5, "why": "x"}, "skill"),
        ({"skill": "sums", "why": "x"}, "value"),
    ],
)
def test_bad_thresholds_are_refused_by_name(http: httpx.Client, body: dict[str, object], param: str) -> None:
    said = http.post("/api/threshold", json=body)
    assert said.status_code in (400, 404)
    assert said.json()["error"]["param"] == param


def test_the_curve_is_of_the_live_adapter_unless_another_is_named(http: httpx.Client, site: Served) -> None:
    live = http.get("/api/whatif", params={"skill": "sums"}).json()
    base = http.get("/api/whatif", params={"adapter": "base", "max_disagreement": 0.2}).json()
    assert (live["adapter"], live["live"]) == (site.adapters[1].name, True)
    assert (base["adapter"], base["live"], base["goal"]["max_disagreement"]) == (None, False, 0.2)
    assert len(live["points"]) == 201
    assert http.get("/api/whatif", params={"adapter": "sn-9999-ffffff"}).status_code == 404


def test_a_page_of_another_site_cannot_change_anything(http: httpx.Client) -> None:
    body = {"skill": "sums", "value": 0.1, "why": "mischief"}
    page = {"origin": str(http.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    assert http.post("/api/threshold", json=body, headers=page).status_code == 403
    assert http.post("/api/threshold", json=body, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_candidate_under_examination_cannot_be_promoted(http: httpx.Client, site: Served) -> None:
    older, newer = (adapter.name for adapter in site.adapters)
    site.daemon.night.candidate = older
    try:
        said = http.post(f"/api/adapters/{older}/promote", json={"why": "impatience"})
    finally:
        site.daemon.night.candidate = None
    assert (said.status_code, "wait for its verdict" in said.json()["error"]["message"]) == (409, True)
    assert int(said.headers["retry-after"]) > 0
    assert http.get("/api/status").json()["adapter"] == newer
