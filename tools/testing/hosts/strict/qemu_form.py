# SPDX-License-Identifier: GPL-2.0-only
"""C in the kernel's form, as all of this project is, in QEMU's: four spaces for a tab, and braces around
each statement of an if, else, for or while. What goes on after a line is aligned anew."""

import re

CONTROL = re.compile(r"\t*(\} )?(else if|if|else|for|while)\b")


# What stands in a string or a comment opens and closes nothing.
STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?(?:\*/|$)')


def code(line):
    return STRING_OR_COMMENT.sub("", line).rstrip()


def balance(line):
    return code(line).count("(") - code(line).count(")")


def head_end(lines, at):
    """The last line of the head of an if, for or while, or of one else."""
    open_ = 0
    while True:
        open_ += balance(lines[at])
        if not open_:
            return at
        at += 1


def indent(line):
    return len(line) - len(line.lstrip("\t"))


def statement(lines, at, out):
    """Append the statement that begins here; return the line after it."""
    while lines[at].lstrip().startswith(("/*", "*")):
        out.append(lines[at])
        at += 1
    if not CONTROL.match(lines[at]) or code(lines[at]).endswith(";"):
        depth = 0
        while True:
            out.append(lines[at])
            depth += balance(lines[at])
            at += 1
            if depth == 0 and code(out[-1]).endswith(";"):
                return at
    last = head_end(lines, at)
    out += lines[at:last + 1]
    level, at = "\t" * indent(lines[at]), last + 1
    if code(out[-1]).endswith("{"):
        while not lines[at].startswith(level + "}"):
            at = line_or_statement(lines, at, out)
    else:
        out[-1] += " {"
        at = statement(lines, at, out)
        # What closes it may have been no line of its own.
        if not lines[at].startswith(level + "else"):
            out.append(level + "}")
            return at
        lines[at] = level + "} " + lines[at].lstrip()
    if re.match(re.escape(level) + r"\} else\b", lines[at]):
        return statement(lines, at, out)
    out.append(lines[at])
    return at + 1


def line_or_statement(lines, at, out):
    if re.match(r"\t+(if|for|while)\b", lines[at]) and not code(lines[at]).endswith(";"):
        return statement(lines, at, out)
    out.append(lines[at])
    return at + 1


def aligned(lines):
    """With spaces: what goes on after a line begins after its innermost open parenthesis."""
    opened, comment = [], False
    for line in lines:
        text = re.sub("\t+", " ", line.lstrip("\t "))
        if comment and text.startswith("*"):
            text = " " + text
        lead = line[:len(line) - len(line.lstrip("\t "))].expandtabs(4)
        begin = opened[-1] + 1 if opened else len(lead) - text.startswith(" ")
        # What stands in a string or a comment opens nothing.
        for match in re.finditer(r'"(?:\\.|[^"\\])*"|/\*|\*/|[()]', text):
            comment = match[0] == "/*" or comment and match[0] != "*/"
            if match[0] == "(" and not comment:
                opened.append(begin + match.start())
            elif match[0] == ")" and not comment:
                opened.pop()
        yield (" " * begin + text).rstrip() + "\n"


def in_their_form(text):
    lines, out, at = text.splitlines(), [], 0
    while at < len(lines):
        at = line_or_statement(lines, at, out)
    return "".join(aligned(out))
