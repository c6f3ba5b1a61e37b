"""The README's table of variables is the one the code generates."""

from pathlib import Path

import pytest

from gateway.config.table import END, START, main, markdown_table, replace_block
from gateway.config.variables import VARIABLES

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_has_the_current_table() -> None:
    page = README.read_text(encoding="utf-8")
    assert replace_block(page) == page, "run: python -m gateway.config.table README.md"


def test_the_table_has_one_line_for_each_variable() -> None:
    lines = [line for line in markdown_table().splitlines() if line.startswith("| `GATEWAY_")]
    assert [line.split("`")[1] for line in lines] == [variable.name for variable in VARIABLES]
    assert {line.count("|") for line in lines} == {5}


def test_every_variable_says_what_it_means_in_whole_sentences() -> None:
    assert [variable.name for variable in VARIABLES if not variable.meaning.endswith(".")] == []


def test_the_command_replaces_the_block_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    assert main([str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{START}\n\n**Doors**")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    assert replace_block(text) == text


@pytest.mark.parametrize("page", ["", START, END, f"{END}{START}", f"{START}{START}{END}"])
def test_a_page_without_its_markers_is_left_alone(
    tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "README.md"
    path.write_text(page)
    assert main([str(path)]) == 1
    assert path.read_text() == page
    assert "expected one" in capsys.readouterr().err
