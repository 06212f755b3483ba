#!/usr/bin/env python3
"""Lists the normative statements that bind the broker and that no test names.

A test names a statement in square brackets, or several: [MQTT-3.3.1-2, MQTT-3.3.1-3].
Where 5.0 and 3.1.1 use an id for different statements, the plain id is that of 5.0, and
[3.1.1 MQTT-3.1.2-8] is that of 3.1.1. `-v` also lists what binds clients only and has no test.
"""

import pathlib
import re
import sys

TESTS = pathlib.Path(__file__).resolve().parent
OWN_FILES = {"normative.txt", "unobservable.txt", "trace.py"}
BRACKETS = re.compile(r"\[([^\[\]]*MQTT-[^\[\]]*)\]")
ID = re.compile(r"MQTT-\d+\.\d+\.\d+-\d+")


def rows(name):
    for line in (TESTS / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def named():
    """The ids in the tests with the version that stands before them, or None."""
    found = set()
    for path in TESTS.rglob("*"):
        if path.is_file() and path.name not in OWN_FILES and path.suffix != ".pyc":
            for group in BRACKETS.findall(path.read_text(errors="replace")):
                version = re.match(r"\s*(5|3\.1\.1)\s", group)
                found.update((id, version and version.group(1)) for id in ID.findall(group))
    return found


def main():
    sides, alike = {}, set()
    for id, version, side, *mark in rows("normative.txt"):
        sides[id, version] = side
        alike.update([id] if mark else [])
    found = named()
    covered = {(id, version) for id, version in sides
               if (id, version) in found or (id, None) in found
               and (version == "5" or id in alike or (id, "5") not in sides)}
    excused = {(id, version) for id, version, *_ in rows("unobservable.txt")}
    required = {row for row, side in sides.items() if side != "client"}
    missing = [row for row in sides if row in required - covered - excused]

    known = {id for id, _ in sides}
    problems = [f"a test names {id} of {version or 'any version'}, which does not exist"
                for id, version in sorted(found, key=str)
                if ((id, version) not in sides if version else id not in known)]
    problems += [f"unobservable.txt names {id} ({version}), which does not exist"
                 for id, version in sorted(excused - set(sides))]
    problems += [f"unobservable.txt lists {id} ({version}), but a test names it"
                 for id, version in sorted(excused & covered)]
    problems += [f"no test names {id} ({version}, {sides[id, version]})" for id, version in missing]
    for problem in problems:
        print(problem)
    client = [row for row, side in sides.items() if side == "client" and row not in covered]
    if "-v" in sys.argv:
        print("\n".join(f"client only, no test: {id} ({version})" for id, version in client))
    print(f"{len(required)} statements bind the broker: {len(required & covered)} named by tests, "
          f"{len((required & excused) - covered)} unobservable, {len(missing)} missing; "
          f"{len(client)} of {len(sides) - len(required)} that bind clients only have no test")
    return 1 if problems else 0


sys.exit(main())
