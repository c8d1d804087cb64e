"""From a path to a file type, by an ordered list of gitignore patterns.

The first rule that matches wins; what none names is ``other``.  A rule is one line of the
configuration's ``classify``; this module neither reads the configuration nor asks a disk.

classify() is called for every file that is created, so the rules of a job type are compiled into one
alternation: a regular expression tries its alternatives from the left, which is "the first rule wins".
pathspec translates the patterns.  Its expressions are made for text without newlines, and bear a
group that an alternation can't have twice; both are mended here, see pattern_regex.
"""

import itertools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from lffs.model import FileType, JobType

if TYPE_CHECKING:  # config checks its patterns with pattern_regex, and is slow to import (pydantic)
    from lffs.config import Rule

# One bracket of an expression that pathspec made, or (first group) an escaped character, to be skipped.
_BRACKET = re.compile(r"(\\.)|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
# How pathspec begins an expression that matches at any depth, and how it is done here.
_ANY_DEPTH = "(?:.+/)?"
_ANYWHERE = ".*/"
# What pathspec ends its expressions with: below a matched directory, or the matched name itself.
_DIRECTORY_MARK = "(?P<ps_d>/)"
_DIRECTORY_MARK_OR_END = f"(?:{_DIRECTORY_MARK}|$)"


def pattern_regex(pattern: str) -> str:
    """Return *pattern* (gitignore's syntax, without ``!``) as an expression for re.match and DOTALL.

    It is for paths with a slash in front, and contains no capturing group.  As in gitignore a pattern
    without a slash matches at any depth, and one that matches a directory matches all that is below.
    Raises ValueError, which says why, if the pattern would match nothing or not what it seems to.
    """
    if pattern.startswith("!"):
        raise ValueError(r"a leading ! is not supported (a file name's own is written \!)")
    if pattern.startswith("#"):
        raise ValueError(r"a leading # makes the pattern a comment (a file name's own is written \#)")
    if "[[:" in pattern or "[![:" in pattern or "[^[:" in pattern:
        raise ValueError("character classes such as [[:digit:]] are not supported, write [0-9]")
    if any(part in (".", "..") for part in pattern.split("/")) or "//" in pattern:
        raise ValueError(f"{pattern!r} matches nothing: no path contains //, ./ or ../")
    try:
        regex, include = GitIgnoreSpecPattern.pattern_to_regex(pattern)
    except ValueError as exc:
        raise ValueError(f"no valid gitignore pattern: {pattern!r}") from exc
    if regex is None or not include:
        raise ValueError(f"{pattern!r} matches nothing")
    # "$" also matches before a newline that ends the text, and a name may end in one.  Both texts
    # contain a slash outside of every bracket, so no part of the user's pattern can look like them.
    regex = regex.replace(_DIRECTORY_MARK_OR_END, r"(?:/|\Z)").replace(_DIRECTORY_MARK, "/")
    # In gitignore no bracket matches a slash; without this "[!t]*.mkv" would reach into directories.
    regex = _BRACKET.sub(_refuse_slash, regex)
    # re.match anchors at the start; what pathspec leaves unanchored ("/": anything in a directory)
    # may come later.  re.search would not do: it prefers a late rule that matches further left.
    regex = f"/{regex[1:]}" if regex.startswith("^") else f"/.*{regex}"
    # With a slash before every component this says the same, at half the cost.
    if regex.startswith(f"/{_ANY_DEPTH}"):
        regex = _ANYWHERE + regex.removeprefix(f"/{_ANY_DEPTH}")
    try:
        if _compile(regex).groups:
            raise ValueError(f"no valid gitignore pattern: {pattern!r}")
    except re.error as exc:  # [z-a]
        raise ValueError(f"no valid gitignore pattern: {pattern!r}: {exc.msg}") from exc
    return regex


def _refuse_slash(bracket: re.Match[str]) -> str:
    if bracket[1] or bracket[0] == "[^/]":  # the latter is what pathspec makes of * and ?
        return bracket[0]
    return f"(?!/){bracket[0]}"


def _compile(regex: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "[[]": re may one day nest sets
        return re.compile(regex, re.DOTALL)


def _any_of(regexes: Sequence[str]) -> str:
    """Return an expression that matches where any of *regexes* does.

    Looking for the beginning of a path's components is what takes the time, so those that match at any
    depth do it together: so LangFlix's 41 rules take less than half the time.
    """
    anywhere = [regex.removeprefix(_ANYWHERE) for regex in regexes if regex.startswith(_ANYWHERE)]
    together = [f"{_ANYWHERE}(?:{'|'.join(anywhere)})"] if anywhere else []
    return "|".join(together + [regex for regex in regexes if not regex.startswith(_ANYWHERE)])


@dataclass(frozen=True, slots=True)
class Loser:
    """A rule that does not give the file its type, and why."""

    rule: "Rule"
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which rule gives a file its type, and why the others don't; *losers* in the rules' order."""

    type: FileType
    winner: "Rule | None"  # None: no rule names the file, it is ``other``
    losers: tuple[Loser, ...]


class Classifier:
    """The rules of a configuration, ready to be asked."""

    def __init__(self, rules: Sequence["Rule"]) -> None:
        """Compile *rules*.  Raises ValueError for a pattern that can't be used."""
        self._rules = tuple(rules)
        regexes = [pattern_regex(rule.match) for rule in self._rules]
        self._by_job_type: dict[JobType, tuple[re.Pattern[str], tuple[FileType, ...]]] = {}
        for job_type in JobType:
            chosen = [
                (rule.type, regex)
                for rule, regex in zip(self._rules, regexes, strict=True)
                if rule.job_types is None or job_type in rule.job_types
            ]
            # One group for each run of rules of one type: among them it doesn't matter which one wins,
            # and the number of the group that matched says the type.
            types = [FileType.OTHER]
            groups = []
            for file_type, run in itertools.groupby(chosen, key=lambda item: item[0]):
                types.append(file_type)
                groups.append(f"({_any_of([regex for _, regex in run])})")
            # Without rules: an expression that never matches.
            self._by_job_type[job_type] = (_compile("|".join(groups) or "(?!)"), tuple(types))

    def classify(self, path: bytes, job_type: JobType) -> FileType:
        """Return the type of the file at *path*, which is relative to its job's directory."""
        regex, types = self._by_job_type[job_type]
        match = regex.match(_text(path))
        return types[match.lastindex or 0] if match else FileType.OTHER

    def explain(self, path: bytes, job_type: JobType) -> Explanation:
        """Return what classify would, with the reasons.

        The rules are asked one by one here: slower, and a check on the combined expression.
        """
        winner: Rule | None = None
        losers = []
        text = _text(path)
        for rule in self._rules:
            if not _compile(pattern_regex(rule.match)).match(text):
                losers.append(Loser(rule, "does not match"))
            elif rule.job_types is not None and job_type not in rule.job_types:
                losers.append(Loser(rule, f"is not for jobs of type {job_type}"))
            elif winner is not None:
                losers.append(Loser(rule, "matches, but an earlier rule won"))
            else:
                winner = rule
        return Explanation(winner.type if winner else FileType.OTHER, winner, tuple(losers))


def _text(path: bytes) -> str:
    """Put a slash before every component, and decode whatever the locale: what is not UTF-8 bytewise."""
    return f"/{path.decode('utf-8', 'surrogateescape')}"
