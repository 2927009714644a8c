"""Alerts and dashboard: valid, tested, and about metrics that the program has."""

import json
import re
import subprocess

import yaml

from . import render, tools
from .manifests import of

RULES = tools.CHART / "rules" / "freehold.yaml"
TESTS = tools.CHART / "ci" / "rules_test.yaml"
DASHBOARD = tools.CHART / "dashboards" / "freehold.json"
METRICS = tools.ROOT / "server" / "src" / "http"


def check(report):
    """All of it."""
    promtool(report, "check", "rules", RULES)
    promtool(report, "test", "rules", TESTS)
    tests, page = TESTS.read_text(), (tools.ROOT / "docs" / "kubernetes.md").read_text()
    alerts = [r["alert"] for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]]
    for alert in alerts:
        report.that(alert in tests, f"ci/rules_test.yaml: {alert} never fires")
        report.that(alert in page, f"docs/kubernetes.md does not say what to do about {alert}")
    expressions = [r["expr"] for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]]
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [p for p in dashboard["panels"] if p["type"] != "row"]
    expressions += [t["expr"] for p in panels for t in p["targets"]]
    metrics(report, expressions)
    placed(report, dashboard["panels"])
    narrowed(report, len(alerts))


def promtool(report, *arguments):
    """One call of promtool."""
    done = subprocess.run([tools.promtool(), *arguments], capture_output=True, text=True)
    report.that(done.returncode == 0, f"promtool {arguments[0]}: {done.stdout}{done.stderr}")


def metrics(report, expressions):
    """Every metric that is asked for is one that the program tells."""
    told = "".join(file.read_text() for file in sorted(METRICS.glob("*.rs")))
    report.that(told, f"there is no {METRICS}")
    for name in sorted({m for e in expressions for m in re.findall(r"\b(?:freehold|process)_\w+", e)}):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        report.that(f'"{name}"' in told or f'"{family}"' in told, f"the program has no metric {name}")
    for expression in expressions:
        own = re.findall(r"\b(?:freehold|process)_\w+|\bup\b", expression)
        labelled = re.findall(r'(?:\b(?:freehold|process)_\w+|\bup)\{job="freehold"', expression)
        report.that(len(own) == len(labelled), f"a metric without its job: {expression}")


def placed(report, panels):
    """No two panels lie on each other."""
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in taken:
                report.that(False, f"dashboard: {panel['title']} lies on {taken[cell]}")
                return
            taken[cell] = panel["title"]
    ids = [panel["id"] for panel in panels]
    report.that(len(ids) == len(set(ids)), "dashboard: two panels have one id")
    report.that(max(x for x, _ in taken) == 23, "dashboard: the last column is empty")


def narrowed(report, alerts):
    """In a release the rules are about this release alone."""
    things = render.objects(files=(render.value_files()["monitoring"],))
    rule = of(things, "PrometheusRule")[0]
    rules = [r for g in rule["spec"]["groups"] for r in g["rules"]]
    report.that(len(rules) == alerts, "PrometheusRule: an alert is lost")
    release = f'namespace="{render.NAMESPACE}",service="{render.RELEASE}-freehold-headless"'
    for entry in rules:
        about = entry["expr"].count(release) + entry["expr"].count(f'persistentvolumeclaim=~"data-{render.RELEASE}-')
        selectors = entry["expr"].count("{")
        report.that(about == selectors, f"{entry['alert']} looks at other releases: {entry['expr']}")
    board = of(things, "ConfigMap")[0]["data"]["freehold.json"]
    report.that(json.loads(board) == json.loads(DASHBOARD.read_text()), "the dashboard is not what the file says")
