"""What stands below a table: enough to make it again."""

import re

from ossia.service.provenance import describe_machine, installed_versions, make_provenance


def test_a_provenance_names_command_seeds_data_and_day() -> None:
    made = make_provenance("ossia evaluate base", seeds=[3, 4], data="data", data_hash="ab" * 32)
    assert (made.command, made.seeds, made.data, made.data_hash) == ("ossia evaluate base", (3, 4), "data", "ab" * 32)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made.date)


def test_versions_are_those_of_what_is_installed() -> None:
    import numpy

    assert installed_versions()["numpy"] == numpy.__version__


def test_a_machine_is_named_with_its_cores_and_python() -> None:
    assert re.search(r", \d+ cores?, .*Python 3\.\d+", describe_machine())
