"""Exports of other systems are recognised by their header, and each column becomes what it means."""

import pytest

from core.errors import InvalidError
from services.identity.consent import Choice
from services.identity.import_mapping import Change, Columns
from services.identity.import_presets import PRESETS, proposed, recognized

HUBSPOT = (
    "Record ID,First Name,Last Name,Email,Phone Number,Contact owner,Lead Status,Unsubscribed from all email,"
    "Create Date"
)
MAILCHIMP = (
    "Email Address,First Name,Last Name,MEMBER_RATING,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LATITUDE,LONGITUDE,"
    "GMTOFF,DSTOFF,TIMEZONE,CC,REGION,UNSUB_TIME,LAST_CHANGED,LEID,EUID,NOTES,TAGS"
)
MAUTIC = "id,title,firstname,lastname,company,email,mobile,phone,points,timezone,preferred_locale,tags"
LISTMONK = "uuid,email,name,attributes,status,created_at,updated_at"


def read(header: str, cells: list[str]) -> tuple[str | None, Change]:
    """Return the preset that is recognised, and what a row says by it."""
    columns = header.split(",")
    preset = recognized(columns)
    return preset, Columns(columns, proposed(columns, preset)).change(2, cells)


def test_a_hubspot_export_is_understood() -> None:
    cells = ["901", "Ann", "Lee", "Ann@shop.example", "(030) 123", "Inès", "NEW", "true", "2024-01-15 10:00"]
    preset, change = read(HUBSPOT, cells)
    assert preset == "hubspot"
    assert change.shown == {"external_id": "hubspot:901", "email": "ann@shop.example"}
    assert change.fields == {"first_name": "Ann", "last_name": "Lee"}
    assert change.attributes == {
        "phone_given": "(030) 123",
        "contact_owner": "Inès",
        "lead_status": "NEW",
        "create_date": "2024-01-15 10:00",
    }
    assert change.consent == {("email", "all"): Choice("email", "all", "opted_out", "import")}


def test_a_mailchimp_export_is_understood() -> None:
    cells = ["ann@shop.example", "Ann", "Lee", "2", "", "", "2015-03-16", "1.2.3.4", "1", "2", "1", "2"]
    cells += ["Europe/Berlin", "DE", "BE", "2016-01-01 10:00:00", "", "1", "abc", "", '"VIP","Old, gold"']
    preset, change = read(MAILCHIMP, cells)
    assert preset == "mailchimp"
    assert change.shown == {"email": "ann@shop.example", "external_id": "mailchimp:abc"}
    assert change.fields == {"first_name": "Ann", "last_name": "Lee", "time_zone": "Europe/Berlin"}
    assert change.attributes == {
        "member_rating": "2",
        "confirm_time": "2015-03-16",
        "country": "DE",
        "region": "BE",
        "tags": ["VIP", "Old, gold"],
    }
    assert set(change.consent) == {("email", "all")}


def test_a_mautic_export_is_understood() -> None:
    cells = ["7", "Dr", "Ann", "Lee", "Shop", "ann@shop.example", "+49 151 12345678", "+49 30 1234567", "5"]
    cells += ["Mars/Base", "de_AT", "a; b"]
    preset, change = read(MAUTIC, cells)
    assert preset == "mautic"
    assert change.shown == {"external_id": "mautic:7", "email": "ann@shop.example", "phone": "+4915112345678"}
    assert change.more == [("phone", "+49301234567")]
    assert change.fields == {"first_name": "Ann", "last_name": "Lee", "locale": "de-AT"}
    assert change.attributes == {
        "title": "Dr",
        "company": "Shop",
        "points": "5",
        "time_zone_given": "Mars/Base",
        "tags": ["a", "b"],
    }


@pytest.mark.parametrize(("status", "left"), [("enabled", False), ("disabled", True), ("blocklisted", True)])
def test_a_listmonk_export_is_understood(status: str, left: bool) -> None:
    cells = ["u-1", "ann@shop.example", "Ann van Lee", '{"city": "Berlin", "n": 2}', status, "2024-01-01", "2024-01-02"]
    preset, change = read(LISTMONK, cells)
    assert preset == "listmonk"
    assert change.shown == {"external_id": "listmonk:u-1", "email": "ann@shop.example"}
    assert change.fields == {"first_name": "Ann van", "last_name": "Lee"}
    assert change.attributes == {"city": "Berlin", "n": 2, "listmonk_created_at": "2024-01-01"}
    assert bool(change.consent) is left


def test_columns_of_no_system_are_taken_by_name_and_none_is_lost() -> None:
    columns = ["E-Mail", "Vorname", "Größe (cm)", "2nd", "consent.sms.offers", "is_vendor", "attributes.a:json", "!"]
    assert proposed(columns, None) == {
        "E-Mail": "email",
        "Vorname": "attributes.vorname",
        "Größe (cm)": "attributes.gr_e_cm",
        "2nd": "attributes._2nd",
        "consent.sms.offers": "consent.sms.offers",
        "is_vendor": "is_vendor",
        "attributes.a:json": "attributes.a:json",
        "!": None,
    }


def test_every_target_of_every_preset_is_one() -> None:
    for preset in PRESETS.values():
        columns = list(preset.columns)
        Columns(columns, dict(preset.columns))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("email", "ann"),
        ("phone", "030 123"),
        ("time_zone", "Mars/Base"),
        ("is_lead", "perhaps"),
        ("consent.email.news", "perhaps"),
        ("attributes.n:json", "{"),
        ("attributes.n:json", '"\\u0000"'),
        ("attributes:json", "[]"),
        ("identifiers:json", '[{"kind": "fax", "value": "1"}]'),
        ("roles_by_hand", "customer"),
    ],
)
def test_a_cell_that_does_not_fit_names_its_field(target: str, text: str) -> None:
    columns = Columns(["external_id", "x"], {"external_id": "external_id", "x": target})
    with pytest.raises(InvalidError) as refusal:
        columns.change(2, ["1", text])
    assert target.split(".", maxsplit=1)[0].split(":", maxsplit=1)[0] in refusal.value.errors[0].field


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("number", "12", 12), ("number", "1.5", 1.5), ("boolean", "yes", True), ("list", "a, b;c", ["a", "b", "c"])],
)
def test_a_defined_attribute_is_read_as_its_type(kind: str, text: str, value: object) -> None:
    columns = Columns(["external_id", "x"], {"external_id": "external_id", "x": "attributes.x"}, types={"x": kind})
    assert columns.change(2, ["1", text]).attributes == {"x": value}
    if kind in {"number", "boolean"}:
        with pytest.raises(InvalidError):
            columns.change(2, ["1", "nonsense"])


def test_a_row_that_means_nobody_is_refused() -> None:
    columns = Columns(["email", "x"], {"email": "email", "x": "attributes.x"})
    with pytest.raises(InvalidError):
        columns.change(2, ["", "1"])
