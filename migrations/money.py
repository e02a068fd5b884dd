"""Amounts in views: from minor units to the currency's own."""

from typing import Final

# Decimal places of the currencies that have other than two, as ISO 4217 has them.
MAJOR: Final = """({minor}::numeric / CASE
    WHEN {code} IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'VND', 'VUV', 'XAF',
                    'XOF', 'XPF') THEN 1
    WHEN {code} IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 1000
    ELSE 100 END)"""
