"""Adds up JUnit reports and closes a test run with one line; fails where a report is missing, empty or red."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def main(reports: list[str]) -> int:
    passed = failed = skipped = 0
    for report in map(Path, reports):
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # our own file
        tests, bad, left = (sum(int(suite.get(key, 0)) for suite in suites for key in keys)
                            for keys in (("tests",), ("failures", "errors"), ("skipped",)))
        print(f"{report.stem}: {tests - bad - left} passed, {bad} failed, {left} skipped")
        if tests == left:
            print(f"{report} ran no test", file=sys.stderr)
            failed += 1
        passed, failed, skipped = passed + tests - bad - left, failed + bad, skipped + left
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not reports else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
