import copy
from pathlib import Path
from typing import Annotated

import pytest

from stages.common.cells import read_cell
from stages.common.errors import InputError
from stages.common.references import Refers, references
from stages.common.settings import Settings


class Visit(Settings):
    host: Annotated[str, Refers("build", named="base")]
    guest: Annotated[str | None, Refers("build", "plans", named="values")] = None
    model_of: Annotated[str | None, Refers(None)] = None
    tool: str = "axe"


PARAMETERS = {"site": {"visit": {"grid": {"variant": ["a"]}, "base": {"host": "barn"}, "variant": {"a": {}}}}}


def visit(base=None, value=None):
    parameters = copy.deepcopy(PARAMETERS)
    parameters["site"]["visit"]["base"] |= base or {}
    parameters["site"]["visit"]["variant"]["a"] = value or {}
    return read_cell(parameters, "site", "visit", "a", Visit)


def test_only_marked_settings_name_cells():
    assert references(Visit) == {
        "host": Refers("build", named="base"),
        "guest": Refers("build", "plans", named="values"),
        "model_of": Refers(None),
    }


def test_folders_are_those_of_the_cells_that_are_named():
    assert visit().others == {"host": Path("data/models/site/barn")}
    assert visit({"model_of": "farm/shed"}, {"guest": "hut"}).others == {
        "host": Path("data/models/site/barn"),
        "guest": Path("data/plans/site/hut"),
        "model_of": Path("data/models/farm/shed"),
    }


@pytest.mark.parametrize(
    ("base", "value", "message"),
    [
        ({"guest": "hut"}, {}, "site.visit.base.guest: 'hut' is not what DVC watches; name it for each value"),
        ({}, {"host": "hut"}, "site.visit.variant.a.host: 'hut' is not what DVC watches; name one cell for all"),
    ],
)
def test_a_cell_is_named_where_dvc_watches(base, value, message):
    with pytest.raises(InputError, match=message):
        visit(base, value)
