"""What a person's row and consent become by a merge, and what they go back to: decided in memory, by path.

A path is a column (`first_name`), a member of one that holds many (`attributes.plan`, `roles_by_hand.lead`), or a
consent (`consent.email:newsletter`). A value that is not there is None.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

Fields = dict[str, Any]
"""By path; what is not there is left out."""
Changes = dict[str, tuple[Any, Any]]
"""By path: before and after."""

MAPS: Final = ("attributes", "social", "preferences")
CONSENT: Final = "consent"
_BY_HAND: Final = "roles_by_hand"
_MANY: Final = (*MAPS, _BY_HAND, CONSENT)
_EARLIEST: Final = ("created_at", "qualified_at")
_LATEST: Final = ("last_seen_at",)
_TIMES: Final = (*_EARLIEST, *_LATEST)
_PLAIN: Final = ("email", "phone", "external_id", "first_name", "last_name", "time_zone", "locale", "owner_id")
_STRICTNESS: Final = ("opted_in", "pending", "opted_out")


def flatten(row: Mapping[str, Any]) -> Fields:
    """Return the fields that a merge looks at, of a person's row as JSON with its `consent` by channel and topic."""
    fields: Fields = {name: row.get(name) for name in (*_PLAIN, "source")}
    fields |= {name: _time(row.get(name)) for name in _TIMES}
    for column in (*MAPS, CONSENT):
        members: Mapping[str, Any] = row.get(column) or {}
        fields |= {f"{column}.{key}": value for key, value in members.items()}
    fields |= {f"{_BY_HAND}.{role}": True for role in row.get(_BY_HAND) or ()}
    return {path: value for path, value in fields.items() if value is not None}


def columns_of(fields: Fields, paths: Iterable[str]) -> dict[str, Any]:
    """Return the columns that these paths are in, whole, as JSON; consent is not among them."""
    row: dict[str, Any] = {}
    for column in {path.partition(".")[0] for path in paths} - {CONSENT}:
        members = {
            key: value
            for path, value in fields.items()
            for owner, _, key in [path.partition(".")]
            if owner == column and key
        }
        if column == _BY_HAND:
            row[column] = sorted(members)
        else:
            row[column] = members if column in MAPS else fields.get(column)
    return row


def filled(winner: Fields, loser: Fields) -> Changes:
    """Return what the winner takes over from the loser.

    What the winner lacks is filled; of times of making and qualifying the earliest holds, of being seen the latest; the
    source is that of the older; of two consents the stricter holds.
    """
    after = {path: loser[path] for path in loser if path not in winner and path.partition(".")[0] in {*_PLAIN, *_MANY}}
    for names, best in ((_EARLIEST, min), (_LATEST, max)):
        for name in names:
            if name in loser:
                after[name] = best(loser[name], winner.get(name, loser[name]))
    older = "created_at" in loser and ("created_at" not in winner or loser["created_at"] < winner["created_at"])
    if "source" in loser and (older or "source" not in winner):
        after["source"] = loser["source"]
    for path in winner.keys() & loser.keys():
        if path.startswith(f"{CONSENT}.") and _stricter(loser[path], winner[path]):
            after[path] = loser[path]
    return {path: (winner.get(path), value) for path, value in after.items() if winner.get(path) != value}


def reverted(fields: Fields, changes: Changes) -> Fields:
    """Return the fields with the changes taken back, where they still hold."""
    back = {path: change[0] for path, change in changes.items() if fields.get(path) == change[1]}
    return {path: value for path, value in (fields | back).items() if value is not None}


def passed_on(loser: Fields, changes: Changes) -> tuple[Changes, Changes]:
    """Return what a merge gives the winner now that its loser was other than thought, and what that takes back.

    `changes` is what it gave. The second are changes of the winner to revert: what holds now, and what was given.
    """
    before = {path: value for path, (value, _) in changes.items() if value is not None}
    given = filled(before, {path: value for path, value in loser.items() if path in changes})
    kept: Changes = {}
    back: Changes = {}
    for path, (old, new) in changes.items():
        now = given[path][1] if path in given else old
        if now != old:
            kept[path] = (old, now)
        if now != new:
            back[path] = (now, new)
    return kept, back


def unflatten(row: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the row, and its consent, with these fields in place of its own."""
    consent = {path.partition(".")[2]: value for path, value in fields.items() if path.partition(".")[0] == CONSENT}
    named = [*_PLAIN, "source", *_TIMES, *MAPS, _BY_HAND]
    return {**row, **columns_of(fields, named), CONSENT: consent}


def as_json(changes: Changes) -> dict[str, Any]:
    """Return the changes as they are stored."""
    return {path: list(change) for path, change in changes.items()}


def from_json(stored: Mapping[str, Any]) -> Changes:
    """Return changes as they were stored."""
    return {path: (change[0], change[1]) for path, change in stored.items()}


def _stricter(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _STRICTNESS.index(one["status"]) > _STRICTNESS.index(other["status"])


def _time(value: str | None) -> str | None:
    """Return the time in one spelling, whose order as text is that of time."""
    if value is None:
        return None
    return datetime.fromisoformat(value).astimezone(UTC).isoformat(timespec="microseconds")
