"""What came of campaigns: which variant did best, what was bought, what it cost, and the report."""
