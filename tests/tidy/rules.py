#!/usr/bin/env python3
"""Checks rules of the source that no compiler checks; prints "ok RULE" or "FAIL RULE", places."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES_MAX = 9124  # aim: 9,000; may only go down
COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 4
# lwIP, Arduino and windows.h define these as macros.
MACROS = ("connect poll send recv bind listen accept select shutdown socket read write close "
          "min max abs round bit word F").split()
FORBIDDEN = [
    ("heap", r"\b(malloc|calloc|realloc|free)\s*\(|\bnew\s+\w|\bdelete\b(?!\s*;)"),
    ("std", r"\bstd::"),
    ("exceptions", r"\b(throw|try|catch)\b"),
    ("virtual", r"\bvirtual\b|\bdynamic_cast\b|\btypeid\b"),
    ("goto", r"\bgoto\b"),
    ("using namespace", r"\busing\s+namespace\b"),
    ("floating point", r"\b(float|double)\b"),
    ("platform macros as names", r"(?<![\w\"])(?:" + "|".join(MACROS) + r")\s*\("),
]
CALL_LIKE = re.compile(
    r"\b(alignas|decltype|noexcept|__attribute__)\s*\((?:[^()]|\([^()]*\))*\)")
SCOPE = re.compile(
    r'(inline\s+)?namespace\b|(typedef\s+)?(class|struct|union)\b|extern\s*"\s*"$')
ACCESS = re.compile(r"\b(public|private|protected)\s*$")
NESTING = {"(": 1, "<": 1, "[": 1, "{": 1, ")": -1, ">": -1, "]": -1, "}": -1}
TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|"""
                   r"""(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""", re.S)


def blank(text):
    """The text without comments and literals; every character keeps its line and column."""
    def spaces(match):
        token = match.group()
        filler = re.sub(r"[^\n]", " ", token)
        return '"' + filler[1:-1] + '"' if token[0] in "\"'" else filler
    return TOKEN.sub(spaces, text)


def without_preprocessor(code):
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
                  lambda match: re.sub(r"[^\n]", " ", match.group()), code, flags=re.M)


def line_of(text, place):
    return text.count("\n", 0, place) + 1


def closing(code, place, pair):
    """Where the bracket that opens at `place` closes."""
    depth = 0
    for i in range(place, len(code)):
        depth += {pair[0]: 1, pair[1]: -1}.get(code[i], 0)
        if depth == 0:
            return i
    raise SystemExit(f"unbalanced {pair}")


def declaration(head):
    """A head without its template parameters, attributes and the operators that look like calls."""
    head = re.sub(r"\[\[.*?\]\]", " ", head, flags=re.S).strip()
    while head.startswith("template"):
        depth, place = 0, head.index("<")
        while True:
            if head[place] == "(":
                place = closing(head, place, "()")
            depth += {"<": 1, ">": -1}.get(head[place], 0)
            place += 1
            if depth == 0:
                break
        head = head[place:].lstrip()
    return CALL_LIKE.sub(r"\1", head)


def parameter_list(head):
    """The parameter list of a function's declaration, or None where it is no function's."""
    if re.match(r"[A-Z_]+\(", head):  # the arguments of doctest's macros are no parameters
        return ""
    operator = re.search(r"\boperator\s*(\(\s*\)|[^(]+)", head)
    opening = head.find("(", operator.end() if operator else 0)
    if opening < 0 or ("=" in head[:opening] and not operator):
        return None
    return head[opening + 1:closing(head, opening, "()")]


def count_parameters(parameters):
    depth, count = 0, 1
    for character in parameters:
        depth += NESTING.get(character, 0)
        count += character == "," and depth == 0
    return count if parameters.strip() not in ("", "void") else 0


def functions(code):
    """(head, line, lines, parameters) of each function defined in namespace or class scope."""
    place, head_start = 0, 0
    while place < len(code):
        character = code[place]
        if character == "(":
            place = closing(code, place, "()")
        elif character in ";}":
            head_start = place + 1
        elif character == ":" and ACCESS.search(code[head_start:place]):
            head_start = place + 1
        elif character == "{":
            head = code[head_start:place].strip()
            declared = declaration(head)
            initialiser = (re.search(r"\)[^;{}]*[^:]:[^:]", declared) and declared[-1:] not in "})"
                           and not re.search(r"\b(const|noexcept|override|final)$", declared)
                           and not re.match(r"(class|struct|union)\b", declared))
            parameters = parameter_list(declared)
            if initialiser or declared.startswith("enum"):
                place = closing(code, place, "{}")
            elif SCOPE.match(declared):
                head_start = place + 1
            elif parameters is None:
                place = closing(code, place, "{}")
            else:
                end = closing(code, place, "{}")
                first = line_of(code, place - len(code[head_start:place].lstrip()))
                yield (head, first, line_of(code, end) - first + 1, count_parameters(parameters))
                place = end
                head_start = end + 1
        place += 1


class Report:
    def __init__(self):
        self.failed = False

    def rule(self, name, violations):
        print(("FAIL " if violations else "ok ") + name)
        for violation in violations[:20]:
            print("  " + violation)
        if len(violations) > 20:
            print(f"  and {len(violations) - 20} more")
        self.failed |= bool(violations)


def header_rules(report, text, code):
    lines = text.splitlines()
    report.rule("header: at most %d lines" % LINES_MAX,
                [f"{len(lines)} lines"] if len(lines) > LINES_MAX else [])
    includes = [f"mqtt.hpp:{i}: {line}" for i, line in enumerate(lines, 1)
                if re.match(r"\s*#\s*include", line)
                and not re.match(r"#include <(stdint|stddef|string)\.h>$", line)]
    report.rule("header: includes only <stdint.h> <stddef.h> <string.h>", includes)
    for name, pattern in FORBIDDEN:
        report.rule(f"header: {name}", [f"mqtt.hpp:{line_of(code, m.start())}: {m.group().strip()}"
                                        for m in re.finditer(pattern, code)])
    report.rule("header: noexcept on every function",
                [f"mqtt.hpp:{line}: {' '.join(head.split())[:80]}"
                 for head, line, _, _ in functions(without_preprocessor(code))
                 if "noexcept" not in head])
    anchors = [line[3:] for line in lines if line.startswith("// >>")]
    manual = [re.search(r">> .*", line).group() for line in lines
              if re.match(r"//\s+(//\s+)?>> \d+\. ", line) and not line.startswith("// >>")]
    numbers = [int(re.match(r">> (\d+)\. ", anchor).group(1)) for anchor in anchors]
    report.rule("header: the manual's table of contents equals the anchors",
                [f"only one has: {entry}" for entry in sorted(set(anchors) ^ set(manual))])
    report.rule("header: sections are numbered in order",
                [] if numbers and numbers == sorted(set(numbers)) else [str(numbers)])


def sources():
    patterns = ("*.hpp", "ports/**/*.?pp", "examples/**/*.?pp", "tests/**/*.?pp", "bench/**/*.?pp")
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def main():
    report = Report()
    header = ROOT / "mqtt.hpp"
    if not header.exists():
        raise SystemExit("FAIL no mqtt.hpp")
    text = header.read_text()
    header_rules(report, text, blank(text))
    wide, long, parameters, marks = [], [], [], []
    for path in sources():
        name, text = path.relative_to(ROOT), path.read_text()
        wide += [f"{name}:{i}: {len(line)} columns" for i, line in enumerate(text.splitlines(), 1)
                 if len(line) > COLUMNS_MAX]
        marks += [f"{name}:{line_of(text, m.start())}: {m.group()}"
                  for m in re.finditer(r"\b(TODO|FIXME|XXX|HACK)\b", text)]
        for head, line, size, count in functions(without_preprocessor(blank(text))):
            place = f"{name}:{line}: {' '.join(head.split())[:60]}"
            if size > FUNCTION_LINES_MAX and not head.startswith("TEST_CASE"):
                long.append(f"{place}: {size} lines")
            if count > PARAMETERS_MAX:
                parameters.append(f"{place}: {count} parameters")
    report.rule(f"at most {COLUMNS_MAX} columns", wide)
    report.rule(f"functions of at most {FUNCTION_LINES_MAX} lines", long)
    report.rule(f"functions of at most {PARAMETERS_MAX} parameters", parameters)
    report.rule("nothing left to do", marks)
    return 1 if report.failed else 0


sys.exit(main())
