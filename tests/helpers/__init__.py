"""What several test files share: plain functions and constants, by subject."""

import pytest

# So that a failed assertion shows its values, as in a test.
pytest.register_assert_rewrite("helpers.command_line", "helpers.policies", "helpers.runs")
