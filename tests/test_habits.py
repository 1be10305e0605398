"""Changelog, citation, hooks, workflow, templates, Dockerfile and the site agree with the code."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import gdpo
from tests.workflow.test_environments import locked
from tools.site_hooks import CONFIG, options_table, without_outer_links

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- changelog and citation


def test_changelog_begins_with_this_version():
    heads = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert heads[0] == gdpo.__version__
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", head) for head in heads)
    numbers = [tuple(map(int, head.split("."))) for head in heads]
    assert numbers == sorted(set(numbers), reverse=True)


def test_changelog_is_a_list_of_titled_changes():
    """Under this version, after a paragraph, each item begins with its subject in bold."""
    section = re.split(r"^## .*$", read("CHANGELOG.md"), flags=re.MULTILINE)[1]
    items = [line for line in section.splitlines() if line.startswith("- ")]
    assert items and [item for item in items if not re.match(r"- \*\*[^*]+\*\*", item)] == []


def test_citation_has_required_keys_and_this_version():
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert {"title", "message", "type", "license", "authors"} <= cited.keys()
    assert cited["version"] == gdpo.__version__
    assert isinstance(cited["date-released"], datetime.date)
    paper = cited["preferred-citation"]
    assert {"type", "title", "authors", "year", "url", "conference"} <= paper.keys()
    assert paper["conference"]["name"]  # the schema wants it of a conference paper


# --- hooks, workflow, templates, image


def test_hooks_have_the_versions_of_the_lock():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    pinned = {repo["repo"].rpartition("/")[2].removesuffix("-pre-commit"): repo.get("rev") for repo in hooks}
    assert {name: f"v{locked('gdpo')[name]}" for name in ("ruff", "snakefmt")} == {
        name: pinned[name] for name in ("ruff", "snakefmt")
    }


def test_local_hooks_call_what_is_there():
    (local,) = (repo for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] if repo["repo"] == "local")
    scripts = [word for hook in local["hooks"] for word in hook["entry"].split() if word.endswith(".py")]
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_workflow_calls_what_ci_calls():
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_issue_template_is_valid(path):
    """A form has a name, a description, and inputs with unique ids and labels."""
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert form["name"] and form["description"]
    inputs = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in inputs}) == len(inputs) > 0
    assert all(part["attributes"]["label"] for part in inputs)


def test_image_is_of_the_lock():
    text = read("Dockerfile")
    assert "--requirement envs/cpu.lock" in text
    (image,) = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
    assert image.startswith("python:3.11") and not image.endswith("latest")
    assert re.search(r"^USER gdpo$", text, re.MULTILINE)
    assert all(
        (ROOT / path.rstrip("/")).exists() for path in re.findall(r"^COPY --chown=\S+ (\S+)", text, re.MULTILINE)
    )


# --- the site


def site() -> dict:
    class Loader(yaml.SafeLoader):
        pass

    return yaml.load(read("mkdocs.yml"), Loader)


def pages_of(entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [page for value in values for page in pages_of(value)]


def test_site_has_every_page():
    kept = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    pages = {path.removeprefix("docs/") for path in kept if path.endswith(".md") and (ROOT / path).exists()}
    if not pages:
        pytest.skip("no git checkout, so no list of its pages")
    assert set(pages_of(site()["nav"])) >= pages


def test_site_fetches_nothing():
    settings = site()
    assert settings["theme"]["font"] is False
    assert any(plugin == "offline" for plugin in settings["plugins"])


def test_links_that_leave_the_site_become_paths():
    text = "[a](other.md#b) [kept runs](../results/reference/README.md) ![x](../README.md) [w](https://x.org)"
    assert without_outer_links(text, ROOT / "docs") == (
        "[a](other.md#b) kept runs (`results/reference/README.md`) ![x](../README.md) [w](https://x.org)"
    )


def test_options_table_has_each_option_with_its_help():
    lines = options_table(CONFIG.read_text(encoding="utf-8")).splitlines()
    assert "| `beta` | `float` | `0.1` | Inverse temperature. Paper: 'beta = 0.1'. |" in lines
    assert len(lines) == 2 + len(re.findall(r"= field\(", CONFIG.read_text(encoding="utf-8")))
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in lines)


def test_api_names_modules_that_exist():
    """Imports nothing: the page's dotted names are files, and the classes are in them."""
    for name in re.findall(r"^::: (\S+)$", read("docs/api.md"), re.MULTILINE):
        path = ROOT / f"{name.replace('.', '/')}.py"
        parent, _, last = name.rpartition(".")
        assert path.is_file() or f"class {last}(" in (ROOT / f"{parent.replace('.', '/')}.py").read_text()


@pytest.mark.long
def test_site_builds_without_a_warning(tmp_path):
    mkdocs = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("no .venv-docs; `make docs` makes it")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": str(Path(sys.executable).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "GDPOTrainer" in (tmp_path / "api.html").read_text()
    html = "".join(path.read_text() for path in tmp_path.rglob("*.html"))
    assert "iframe-worker.js" in html
    assert re.findall(r'<(?:script|link)[^>]*(?:src|href)="https?://[^"]*"', html) == []
