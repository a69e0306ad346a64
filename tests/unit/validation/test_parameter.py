from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.partition import Partition
from millrace.spec.contract import ExpectationSpec
from millrace.validation.parameter import bind, check_parameters


def between(**kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec(type="expect_column_values_to_be_between", kwargs={"column": "at", **kwargs})


def test_a_parameter_becomes_the_value_of_the_partition_and_the_name_stays() -> None:
    march = Partition("2020-03", "month", "America/New_York")
    spec = between(min_value={"$PARAMETER": "partition_start"}, max_value={"$PARAMETER": "partition_end"})
    bound = bind([spec, between(min_value=1)], march)
    assert bound[0].kwargs["min_value"] == "2020-03-01T05:00:00Z"
    assert bound[0].kwargs["max_value"] == "2020-04-01T04:00:00Z"
    assert bound[0].name == spec.name
    assert bound[1] == between(min_value=1)


def test_an_unknown_parameter_names_those_there_are() -> None:
    with pytest.raises(SpecError, match="partition_begin") as caught:
        bind([between(min_value={"$PARAMETER": "partition_begin"})], Partition("2020-03"))
    assert "partition_start, partition_end, partition" in caught.value.remedy


def test_a_static_source_has_no_parameters() -> None:
    contract = [between(min_value={"$PARAMETER": "partition_start"})]
    check_parameters(contract, static=False)
    with pytest.raises(SpecError, match="without partitions"):
        check_parameters(contract, static=True)
