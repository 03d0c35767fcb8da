"""Functions and constants shared by several test files."""

import pytest

# Failed assertions in these modules show their values, as in tests.
pytest.register_assert_rewrite("helpers.command_line", "helpers.policies", "helpers.runs")
