"""What came of campaigns."""
