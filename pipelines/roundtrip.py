"""Edit YAML files that people write: comments, order and the spelling of numbers and texts are kept."""

import io
from collections.abc import MutableMapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError


def load(name: str, text: str) -> MutableMapping[str, Any]:
    """Read a mapping from the text of the file `name`; InputError if it is none."""
    try:
        content = _yaml().load(text)
    except YAMLError as error:
        raise InputError(name, f"not YAML ({error})", "mend the line it names") from None
    if not isinstance(content, MutableMapping):
        raise InputError(name, "holds no keys", "restore it with git")
    return content


def dump(content: MutableMapping[str, Any]) -> str:
    """Return the text of what `load` read, with the changes made since."""
    text = io.StringIO()
    _yaml().dump(content, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
