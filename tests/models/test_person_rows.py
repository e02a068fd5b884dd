"""No table may name a person without saying what a merge and an erasure do with its rows."""

import pytest

from models import Base
from models.base import OF_PERSON, OfPerson

RULES = [
    (table.name, rule)
    for table in Base.metadata.sorted_tables
    for rule in table.info.get(OF_PERSON, ())
    if isinstance(rule, OfPerson)
]
FOREIGN_KEYS = sorted(
    (table.name, key.column_keys[1])
    for table in Base.metadata.sorted_tables
    for key in table.foreign_key_constraints
    if key.referred_table.name == "person"
)
NOT_PEOPLE = {
    # names of people who may be gone: history, not a reference
    ("person_merge", "winner_id"),
    ("person_merge", "loser_id"),
    ("erasure", "person_id"),
    # gone with its run
    ("duplicate_block", "person_id"),
    # of a waiter's kind: found with the rows of the table they belong to
    ("enrollment", "subject_id"),
    ("event", "subject_id"),
    # beside `person_id`, which has the rule; it only tells whose turn it is
    ("webhook_delivery", "subject_id"),
}
"""Columns that look like a person's id and need no rule of their own."""


@pytest.mark.parametrize(("table", "column"), FOREIGN_KEYS)
def test_each_foreign_key_to_a_person_has_a_rule(table: str, column: str) -> None:
    assert [rule.column for name, rule in RULES if name == table].count(column) == 1


def test_what_looks_like_a_persons_id_has_a_rule_or_a_reason() -> None:
    looks = {
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name in {"person_id", "subject_id"} or column.name.startswith("person_")
    } - NOT_PEOPLE
    assert looks - {(name, rule.column) for name, rule in RULES} == set()


@pytest.mark.parametrize(("table", "rule"), RULES, ids=[f"{name}.{rule.column}" for name, rule in RULES])
def test_the_rules_name_columns_that_there_are(table: str, rule: OfPerson) -> None:
    columns = set(Base.metadata.tables[table].columns.keys())
    assert {rule.column, *rule.moves, *rule.settles, *rule.blanks} <= columns
    if rule.erase == "detach" and rule.column not in rule.blanks:
        assert Base.metadata.tables[table].columns[rule.column].nullable
