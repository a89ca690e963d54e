"""The documentation is true where that can be checked: links, commands, reason codes, columns, examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from screening.result import Reason
from screening.site import SiteProfile, load_site
from screening.store import EXAM_COLUMNS, IMAGE_COLUMNS, REGION_COLUMNS
from training.datasets import ADAPTERS
from training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def example(page: str) -> str:
    """The page's one YAML example."""
    (found,) = re.findall(r"```yaml\n(.*?)```", text(page), re.DOTALL)
    return str(found)


def options_of_commands() -> dict[str, set[str]]:
    """Every command, those that other packages join with included, and its options."""
    import typer

    from screening.cli import app

    joined = typer.Typer()
    for entry in entry_points(group="screening.commands"):
        entry.load()(joined)
    commands = [command for group in (app, joined) for command in typer.main.get_group(group).commands.items()]
    return {name: {o for p in one.params for o in (*p.opts, *p.secondary_opts)} for name, one in commands}


def commands_shown() -> Iterator[tuple[str, str, str]]:
    """Every `screening COMMAND …` in a code block or in inline code: (page, command, the rest of its line)."""
    for page in PAGES:
        for line in re.findall(r"^(?:\S+/)?screening ([a-z].*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            command, _, rest = line.partition(" ")
            yield page.name, command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_commands_shown_exist_with_their_options() -> None:
    known = options_of_commands()
    shown = list(commands_shown())
    assert shown
    for page, command, rest in shown:
        assert command in known, f"{page} shows screening {command}"
        for option in re.findall(r"--[a-z0-9-]+", rest):
            assert option in known[command], f"{page} shows screening {command} {option}"


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for page in PAGES:
        shown = re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )?([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(shown) <= targets, page.name


def test_every_reason_code_is_explained_in_order() -> None:
    assert re.findall(r"^\| `([a-z0-9-]+)` \| (?:rejected|failed) \|", text("docs/score.md"), re.MULTILINE) == list(
        Reason
    )


@pytest.mark.parametrize("columns", [EXAM_COLUMNS, IMAGE_COLUMNS, REGION_COLUMNS])
def test_columns_of_the_tables_are_listed(columns: tuple[str, ...]) -> None:
    assert ", ".join(f"`{column}`" for column in columns) in " ".join(text("docs/score.md").split())


def test_every_adapter_is_listed() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", text("docs/train.md"), re.MULTILINE)) == set(ADAPTERS)


def test_the_site_profile_shown_is_valid_and_shows_every_key_of_use(tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text(example("docs/score.md"), encoding="utf-8")
    load_site(profile)
    assert set(yaml.safe_load(profile.read_text())) >= set(SiteProfile.model_fields) - {"operating_point"}


def test_the_recipe_shown_is_valid(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(example("docs/train.md"), encoding="utf-8")
    load_recipe(recipe)
