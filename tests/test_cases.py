"""The helper for many cases in one test reports every failure, and never passes without a case."""

import pytest

from tests.cases import cases


def test_all_cases_are_tried_and_all_failures_are_named() -> None:
    tried: list[int] = []
    with pytest.raises(ExceptionGroup) as caught, cases() as case:
        for number in range(6):
            with case(f"case {number}"):
                tried.append(number)
                if number == 4:
                    pytest.fail("four")
                assert number % 2 == 0

    assert tried == [0, 1, 2, 3, 4, 5]
    assert caught.value.message == "4 of 6 cases failed: case 1, case 3, case 4, case 5"
    assert [type(exc) for exc in caught.value.exceptions] == [AssertionError] * 4


def test_a_test_without_cases_fails() -> None:
    with pytest.raises(AssertionError, match="no case"), cases():
        pass


def test_a_skip_inside_a_case_skips_the_test() -> None:
    with pytest.raises(pytest.skip.Exception), cases() as case, case("one"):
        pytest.skip("not here")


def test_an_error_outside_a_case_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError), cases() as case:
        with case("one"):
            raise ValueError
        raise KeyError
