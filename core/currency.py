"""Currencies of ISO 4217 and how many decimal places each has."""

from decimal import Decimal

_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"

EXPONENTS = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_NONE.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Decimal places by code, for the currencies in circulation."""

MAX_MINOR = 2**63 - 1
"""The largest amount the store holds."""


def to_minor(amount: Decimal, code: str) -> int:
    """Return `amount` in the currency's smallest unit.

    Raises:
        ValueError: the code is unknown, or the amount is finer than the smallest unit, not finite or too large.
    """
    if code not in EXPONENTS:
        raise ValueError("is not a currency code of ISO 4217")
    if not amount.is_finite():
        raise ValueError("is not a finite number")
    if amount.adjusted() > len(str(MAX_MINOR)):
        raise ValueError("is too large")
    scaled = amount.scaleb(EXPONENTS[code])
    if scaled != scaled.to_integral_value():
        raise ValueError(f"has more decimal places than {code} has")
    if abs(scaled) > MAX_MINOR:
        raise ValueError("is too large")
    return int(scaled)


def from_minor(minor: int, code: str) -> Decimal:
    """Return `minor` smallest units as a decimal with as many places as the currency has."""
    return Decimal(minor).scaleb(-EXPONENTS[code])
