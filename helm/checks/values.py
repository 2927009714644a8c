"""The chart's values: that they are documented, that the schema knows them all and refuses all else."""

import functools
import json
import re

import yaml

from . import render, tools

VALUES = tools.CHART / "values.yaml"
SCHEMA = tools.CHART / "values.schema.json"
README = tools.CHART / "README.md"
BEGIN, END = "<!-- values: begin, written by helm/check --write -->", "<!-- values: end -->"


@functools.cache
def documented():
    """(path, default, text) of each value that has a comment `# -- text`, in order."""
    rows, path, comment = [], [], None
    values = yaml.safe_load(VALUES.read_text())
    for line in VALUES.read_text().splitlines():
        if match := re.match(r"\s*# -- (.*)", line):
            comment = match[1]
        elif match := re.match(r"( *)([A-Za-z]\w*):", line):
            depth = len(match[1]) // 2
            path[depth:] = [match[2]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                rows.append((".".join(path), value, comment))
                comment = None
    return rows


def leaves(value, known, path=""):
    """Paths of the values that stand alone: what is documented, or no map."""
    if path in known or not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key in value for leaf in leaves(value[key], known, f"{path}.{key}".strip("."))]


def table():
    """The table of the README."""
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for path, value, text in documented():
        default = json.dumps(value).replace("|", "\\|")
        rows.append(f"| `{path}` | `{default}` | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def write():
    """Puts the table into the README."""
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


def check(report):
    """values.yaml, its comments, the README and the schema say the same."""
    defaults = yaml.safe_load(VALUES.read_text())
    known = {path for path, _, _ in documented()}
    for leaf in leaves(defaults, known):
        report.that(leaf in known, f"values.yaml: {leaf} has no comment `# -- ...`")
    readme = README.read_text()
    report.that(table() in readme, "README.md: the table of values is old; run helm/check --write")
    schema = json.loads(SCHEMA.read_text())
    for path, problem in compare(defaults, schema, schema, known):
        report.that(not problem, f"values.schema.json: {path}: {problem}")
    cargo = (tools.ROOT / "Cargo.toml").read_text()
    chart = yaml.safe_load((tools.CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"', cargo, re.MULTILINE)[1]
    report.that(chart["appVersion"] == version, f"Chart.yaml: appVersion is not {version}")
    used = "".join(file.read_text() for file in (tools.CHART / "templates").rglob("*.*"))
    for path in known:
        # By its own name, or with all of its map.
        parent, _, last = path.rpartition(".")
        found = re.search(rf"\.{last}\b", used) or re.search(rf"toYaml \$?\.?[vV]alues\.{parent} ", used)
        report.that(found, f"values.yaml: no template uses {path}")


def compare(value, schema, whole, known, path=""):
    """For each value whether the schema knows it, and for each map whether it is closed."""
    schema = resolve(schema, whole)
    properties = schema.get("properties", {})
    if path not in known and isinstance(value, dict):
        yield path or "(top)", "" if schema.get("additionalProperties") is False else "it is open"
        for name in properties:
            if name not in value and name != "global":
                yield f"{path}.{name}", "it is not in values.yaml"
        for key in value:
            if key not in properties:
                yield f"{path}.{key}", "it is not in the schema"
            else:
                yield from compare(value[key], properties[key], whole, known, f"{path}.{key}".strip("."))
    else:
        yield path, "" if schema else "the schema says nothing about it"


def resolve(schema, whole):
    """What a $ref stands for."""
    while "$ref" in schema:
        schema = whole["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


# Settings that must be refused, each with a word that the error must have.
WRONG = [
    ("replicas=0", "replicas"),
    ("replicas=three", "replicas"),
    ("replica=3", "replica"),
    ("spares.replicas=-1", "replicas"),
    ("image.tag=with blank", "tag"),
    ("image.digest=sha256:1", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("tls.cluster.source=none", "source"),
    ("tls.client.source=selfSigned", "source"),
    ("tls.client.hosts[0]=a b", "hosts"),
    ("settings.cache-size=lots", "cache-size"),
    ("settings.chache-size=1GB", "chache-size"),
    ("settings.retain-time=7", "retain-time"),
    ("settings.insecure=true", "insecure"),
    ("extraArgs[0]=positional", "extraArgs"),
    ("persistence.size=ten", "size"),
    ("persistence.accessModes[0]=ReadWriteMany", "accessModes"),
    ("persistence.whenDeleted=Keep", "whenDeleted"),
    ("service.type=ExternalName", "type"),
    ("service.port=70000", "port"),
    ("ports.sql=80", "sql"),
    ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
    ("terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
    ("topologySpread.zone=Maybe", "zone"),
    ("resources.memory=1Gi", "memory"),
    ("networkPolicy.client[0].podSelector=x", "client"),
    ("monitoring.rules.enabled=yes please", "enabled"),
    ("labels.team=a b", "team"),
    ("locality.labels.zone=a\\,b", "zone"),
    ("fullnameOverride=Upper", "fullnameOverride"),
    ("cluster.listenAddress=localhost", "listenAddress"),
    # Refused by the templates, for what a schema can't say.
    ("tls.cluster.source=secret", "tls.cluster.secret"),
    ("tls.client.source=secret", "tls.client.secret"),
    ("tls.client.source=certManager", "issuerName"),
    ("replicas=60,spares.replicas=30,tls.cluster.hosts={a,b,c,d}", "100 names"),
]


def refused(report):
    """Wrong values are refused by both generations of Helm, with a word about what is wrong."""
    for generation in tools.HELM_PACKAGES:
        for setting, word in WRONG:
            try:
                render.template(settings=(setting,), generation=generation)
                report.that(False, f"{generation} takes {setting}")
            except AssertionError as error:
                report.that(word in str(error), f"{generation}, {setting}: the error does not name {word}: {error}")
