"""Runs the checks, counts them, and says what failed."""

import os
import time

from . import image, manifests, monitoring, play, render, values
from .tools import Missing

# Name and function; each gets a Report, in which it notes every single thing that it has looked at.
CHECKS = [
    ("values", values.check),
    ("lint", render.lint),
    ("schema", values.refused),
    ("kubernetes", render.validate),
    ("manifests", manifests.check),
    ("monitoring", monitoring.check),
    ("scripts", image.scripts),
    ("image", image.check),
    ("flags", play.flags),
    ("play", play.cluster),
]


class Report:
    """What one check has found."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failures = []
        self.skipped = []

    def that(self, holds, text):
        """Notes that something holds, or what is wrong."""
        if holds:
            self.passed += 1
        else:
            self.failures.append(text)

    def skip(self, why):
        """Something could not be looked at."""
        if os.environ.get("FREEHOLD_REQUIRE") == "all":
            self.failures.append(f"{why}, and FREEHOLD_REQUIRE=all")
        else:
            self.skipped.append(str(why))


def main(arguments):
    """Runs the checks that were asked for; the exit code."""
    if "--write" in arguments:
        values.write()
    names = [argument for argument in arguments if not argument.startswith("-")]
    chosen = [c for c in CHECKS if not names or any(c[0].startswith(n) for n in names)]
    passed = failed = 0
    for name, check in chosen:
        report = Report(name)
        began = time.monotonic()
        try:
            check(report)
        except Missing as missing:
            report.skip(missing)
        for failure in report.failures:
            print(f"FAILED: {name}: {failure}")
        for why in report.skipped:
            print(f"skipped: helm {name}: {why}")
        verdict = "FAILED" if report.failures else "ok"
        print(f"helm {name}: {verdict}, {report.passed} checks in {time.monotonic() - began:.1f} s", flush=True)
        passed += report.passed
        failed += len(report.failures)
    note(passed)
    print(f"helm: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def note(checks):
    """For the closing table of .ci/run."""
    file = os.environ.get("FREEHOLD_REPORT")
    if file:
        with open(file, "a", encoding="utf-8") as report:
            report.write(f"helm checks\t{checks}\n")
