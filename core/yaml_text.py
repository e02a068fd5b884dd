"""YAML as JSON has it: texts, numbers, true, false, null, lists and objects; nothing that means more than it says.

PyYAML reads YAML 1.1, where `on` is true, `10:30` is a number and `2026-01-31` a date. Here a plain scalar is what the
core schema of YAML 1.2 makes of it, so that a journey's `on: entered` and `at: 10:30` are what their author sees.
"""

import re
from typing import Any, Final, cast

import yaml
from yaml.nodes import MappingNode, Node

_DEEPEST: Final = 50
_MOST_BRACKETS: Final = 10_000
_TAGS: Final = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?", "-+0123456789"),
)


class YamlError(ValueError):
    """The text is no YAML that JSON could hold; the message says where and why."""


class _Loader(yaml.SafeLoader):  # the safe one: no tag makes an object of ours
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base class has it

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):  # pyright: ignore[reportUnknownMemberType]  # untyped there
            # A few of them make gigabytes of some bytes.
            raise YamlError(f"line {self._line()}: aliases (*name) are not taken")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as it has it
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise YamlError(f"line {key.start_mark.line + 1}: a name must be text: put it in quotes")
            if key.value in seen:
                raise YamlError(f"line {key.start_mark.line + 1}: {str(key.value)[:80]} appears twice in one object")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def _line(self) -> int:
        return int(cast("Any", self).peek_event().start_mark.line) + 1


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as the base class has it
        return True  # what is the same object twice is written twice


for _tag, _pattern, _first in _TAGS:
    _Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]  # PyYAML has no types
        _tag, re.compile(f"^(?:{_pattern})$"), [*_first, ""] if "null" in _tag else [*_first]
    )


def load(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value that a YAML document holds.

    Raises:
        YamlError: it is none, or more than JSON can hold.
    """
    if text.count("{") + text.count("[") > _MOST_BRACKETS:
        raise YamlError("holds too many brackets")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader with fewer tags
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise YamlError("is not YAML") from error
    except RecursionError as error:
        raise YamlError(f"nests deeper than {_DEEPEST} levels") from error


def dump(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as YAML that `load` reads as the same, and other readers too."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))
