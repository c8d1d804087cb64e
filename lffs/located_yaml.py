"""YAML as plain values, with the line of each part and every problem in it.

Nothing is constructed but None, bools, numbers, texts, lists and dicts with text as keys: no tag can
run anything.  This module knows no setting; config does.
"""

import re

import yaml

NodePath = tuple[str | int, ...]  # keys and positions from the document down to a part of it


class _Loader(yaml.SafeLoader):
    """Only used to compose nodes: it constructs no object, so no tag can run anything.

    Plain scalars are typed as people read them.  YAML 1.1 would make 1:30 the number 90, 010 the number
    8 and 2026-01-01 a date, and 1e3 a text; here the first three are texts and the last is a number.
    """


_Loader.yaml_implicit_resolvers = {}  # else the first resolver that is added copies SafeLoader's
_NULL, _BOOL, _INT, _FLOAT, _STR = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NO_NUMBER = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _regex in (
    (_NULL, "~|null|Null|NULL|"),
    (_BOOL, "|".join(f"{word}|{word.title()}|{word.upper()}" for word in _BOOLS)),
    (_INT, r"[-+]?(?:0|[1-9][0-9]*)"),
    # Not 010 (eight or ten?): it stays a text, and no setting takes that for a number.
    (_FLOAT, rf"(?![-+]?0[0-9])(?:{_NUMBER})|{_NO_NUMBER}"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_regex})\Z"), None)

_MAX_NODES = 100_000  # aliases of aliases could make a short file endless
_MAX_DEPTH = 20  # no setting lies deeper than 4, and what reads JSON has a limit of its own


class Document:
    """What a YAML text says, the line of each part of it, and what is wrong with it."""

    def __init__(self) -> None:
        self.value: object = None
        self.lines: dict[NodePath, int] = {}
        self.problems: list[tuple[int, str]] = []
        self._nodes = 0

    def build(self, node: yaml.Node, path: NodePath) -> object:
        """Return what *node* stands for, and note the lines; the keys' own lines come first."""
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise RecursionError
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            try:
                return _scalar(node.tag, node.value)
            except ValueError as exc:
                self.problems.append((line, f"{dotted(path)}: {exc}"))
                return None
        self.problems.append((line, f"{dotted(path)}: the tag {node.tag!r} is not allowed"))
        return None

    def _build_mapping(self, node: yaml.MappingNode, path: NodePath) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or _has_surrogate(key_node.value):
                self.problems.append((line, f"{dotted(path)}: a key must be a word"))
                continue
            key_path = (*path, key_node.value)
            if key_node.value in mapping:
                first = self.lines[key_path]
                self.problems.append((line, f"{dotted(key_path)}: given twice, first in line {first}"))
                continue
            self.lines[key_path] = line
            mapping[key_node.value] = self.build(value_node, key_path)
        return mapping


def _scalar(tag: str, text: str) -> object:
    if tag == _STR:
        if _has_surrogate(text):
            raise ValueError(f"{text!r} is no text: half of a surrogate pair")
        return text
    if tag == _NULL and text in _NULLS:
        return None
    if tag == _BOOL and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if tag in (_INT, _FLOAT):
        try:
            return int(text) if tag == _INT else float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except ValueError:
            raise ValueError(f"{text[:40]!r} is no number") from None
    raise ValueError(f"the tag {tag!r} is not allowed here")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def read_yaml(text: str) -> Document:
    """Return what *text* says.  Raises nothing: a text that is no YAML is a problem of the document."""
    document = Document()
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            document.value = document.build(node, ())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        said = ", ".join(part for part in (exc.context, exc.problem) if part)
        document.problems.append((mark.line + 1 if mark else 1, f"not valid YAML: {said}"))
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        document.problems.append((line, f"not valid YAML: the character {exc.character:#06x} is not allowed"))
    except RecursionError:
        document.problems.append((1, "not usable: nested too deeply, or an alias that contains itself"))
    return document


def dotted(path: NodePath) -> str:
    """Return how people write *path*: ``classify[2].type`` for ("classify", 2, "type")."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".") or "the document"
