"""`extends` of methods and sets, `add_rows`, and errors that name the file and the key that a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdpo.config.loader import load_scale
from gdpo.config.written import located, merge, where
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.project import CONFIG
from tests.refusal import refused


def scale_file(directory: Path, text: str, name: str = "own") -> Path:
    path = directory / f"{name}.yaml"
    path.write_text(f"{text}\n" if text.startswith("extends: ") else f"extends: micro\n{text}\n")
    return path


def test_method_extends_the_entry_of_its_own_scale(tmp_path: Path) -> None:
    """Micro's SFT has 4 epochs, tiny's 5: what is extended is the merged entry, whichever file it is from."""
    text = "methods: {a: {extends: sft, batch_size: 8}, b: {extends: a, display: B, lora: {r: 2, alpha: 4}}}"
    methods = load_scale(scale_file(tmp_path, text)).methods
    assert methods["a"].model_dump() == methods["sft"].model_dump() | {"display": "a", "batch_size": 8}
    assert (methods["b"].epochs, methods["b"].batch_size, methods["b"].lora.r, methods["b"].display) == (4, 8, 2, "B")


def test_extended_mapping_is_merged_and_null_takes_a_setting_away(tmp_path: Path) -> None:
    text = "methods: {a: {extends: gdpo-lora, lora: null, objective: {beta: 0.5}}}"
    methods = load_scale(scale_file(tmp_path, text)).methods
    assert methods["a"].lora is None
    assert methods["a"].objective == methods["gdpo"].objective.model_copy(update={"beta": 0.5})


def test_extending_without_a_change_has_the_same_hash(tmp_path: Path) -> None:
    scale = load_scale(scale_file(tmp_path, "methods: {a: {extends: gdpo}}\ntrainsets: {t: {extends: metakl}}"))
    assert fingerprint(scale.methods["a"]) == fingerprint(scale.methods["gdpo"])
    assert fingerprint(scale.trainsets["t"]) == fingerprint(scale.trainsets["metakl"])


def test_training_set_extends_another_and_a_limit_lowers_both(tmp_path: Path) -> None:
    path = scale_file(tmp_path, "trainsets: {half: {extends: union, size: 48}, same: {extends: union}}")
    sets = load_scale(path).trainsets
    assert (sets["half"].parts, sets["half"].size, sets["same"].size) == (["hard-only", "safety-only"], 48, 96)
    limited = load_scale(path, 16).trainsets
    assert (limited["half"].size, limited["same"].size) == (16, 16)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "methods: {a: {extends: sfft}}",
            {"key": "methods.a.extends", "found": "'sfft'", "hint": "did you mean 'sft'"},
        ),
        ("methods: {a: {extends: b}, b: {extends: a}}", {"key": ".extends", "found": "a loop"}),
        ("trainsets: {a: {extends: [union]}}", {"key": "trainsets.a.extends", "found": "list"}),
        ("methods: {a: {extnds: sft}}", {"key": "methods.a.extnds", "hint": "did you mean 'extends'?"}),
        ("tables: {table2: {add_row: []}}", {"key": "tables.table2.add_row", "hint": "did you mean 'add_rows'?"}),
        ("tables: {table2: {add_rows: {row: x}}}", {"key": "tables.table2.add_rows", "expected": "a list of rows"}),
        ("tables: {tabel2: {add_rows: []}}", {"key": "tables.tabel2", "hint": "did you mean 'table2'?"}),
        (
            "tables: {table2: {add_rows: [{row: Origin}]}}",
            {"key": "tables.table2.add_rows.0.row", "found": "'Origin' a second time"},
        ),
    ],
)
def test_what_cannot_be_extended_is_refused(tmp_path: Path, text: str, fields: dict[str, str]) -> None:
    path = scale_file(tmp_path, text)
    with refused(path=str(path), **fields):
        load_scale(path)


def titles(scale: Path | str, table: str = "table2") -> list[str]:
    return [cell.row for cell in load_scale(scale).tables[table].rows]


def test_added_rows_stand_behind_those_of_every_scale_below(tmp_path: Path) -> None:
    scale_file(tmp_path, "tables: {table2: {add_rows: [{row: A, trainset: union, method: dpo}]}}", "below")
    text = "extends: below\ntables: {table2: {add_rows: [{row: B, trainset: union, method: gdpo}]}}"
    assert titles(scale_file(tmp_path, text)) == [*titles("micro"), "A", "B"]
    replaced = "extends: below\ntables: {table2: {rows: [{row: C}], add_rows: [{row: D, model: tiny-teacher}]}}"
    assert titles(scale_file(tmp_path, replaced)) == ["C", "D"]
    assert titles(scale_file(tmp_path, "studies: {tradeoff: {add_rows: []}}")) == titles("micro")


def test_error_names_the_file_of_the_entry(tmp_path: Path) -> None:
    """The wrong epochs are written below; `own.yaml`, which is loaded, has the method as well."""
    scale_file(tmp_path, "methods: {sft: {epochs: many}}", "below")
    own = scale_file(tmp_path, "extends: below\nmethods: {sft: {batch_size: 8}}")
    with refused(path=str(tmp_path / "below.yaml"), key="methods.sft.epochs", found="'many'"):
        load_scale(own)
    with refused(path=str(own), key="methods.sft.epochs", found="'few'"):
        load_scale(scale_file(tmp_path, "extends: below\nmethods: {sft: {epochs: few}}"))


def test_error_names_the_row_as_it_was_written(tmp_path: Path) -> None:
    """Behind six rows of table 2 and one of the scale below, it is the first that this file adds."""
    scale_file(tmp_path, "tables: {table2: {add_rows: [{row: A, trainset: union, method: dpo}]}}", "below")
    text = "extends: below\ntables: {table2: {add_rows: [{row: B, trainset: union, method: gdop}]}}"
    own = scale_file(tmp_path, text)
    with refused(path=str(own), key="tables.table2.add_rows.0.method", found="'gdop'"):
        load_scale(own)


def test_error_names_the_table_of_the_anchor(tmp_path: Path) -> None:
    """Table 1 is checked before tableZ, which alone has the rows' text."""
    text = "tables: {tableZ: {title: Z, rows: &r [{row: A, trainset: metalk, method: gdpo}]}, table1: {rows: *r}}"
    with refused(path="own.yaml", key="tables.tableZ.rows.0.trainset", found="'metalk'"):
        load_scale(scale_file(tmp_path, text))


def test_error_in_a_shared_file_names_it(tmp_path: Path, monkeypatch) -> None:
    for path in CONFIG.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shared = tmp_path / "tables.yaml"
    shared.write_text(
        shared.read_text().replace("{row: MetaGDPO, trainset: metakl,", "{row: MetaGDPO, trainset: metalk,", 1)
    )
    monkeypatch.setattr("gdpo.config.loader.CONFIG", tmp_path)
    with refused(path=str(shared), key="table1.rows.4.trainset", found="'metalk'"):
        load_scale("tiny")


def test_dotted_names_and_missing_entries_have_a_place() -> None:
    base = located({"models": {"gpt-4.1": {"a": 1}}, "rows": [{"x": 1}]}, Path("base.yaml"))
    raw = merge(base, located({"models": {"gpt-4.1": {"b": 2}}}, Path("own.yaml")))
    assert where(raw, "models.gpt-4.1.a", Path("own.yaml")) == (Path("base.yaml"), "models.gpt-4.1.a")
    assert where(raw, "models.gpt-4.1.b", Path("x.yaml")) == (Path("own.yaml"), "models.gpt-4.1.b")
    assert where(raw, "models.gpt-4.1.display", Path("x.yaml")) == (Path("own.yaml"), "models.gpt-4.1.display")
    assert where(raw, "rows.0.x", Path("x.yaml")) == (Path("base.yaml"), "rows.0.x")
    assert where(raw, "rows.7.x", Path("x.yaml")) == (Path("base.yaml"), "rows.7.x")
    assert where(raw, "absent.key", Path("x.yaml")) == (Path("x.yaml"), "absent.key")


def test_own_file_is_named_where_an_entry_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own\.yaml, methods\.a\.display: Field required"):
        load_scale(scale_file(tmp_path, "methods: {a: {trainer: sft}}"))
