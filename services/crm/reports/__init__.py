"""What sales are and were: the forecast, how deals pass through stages, how many are won, how fast, and why not."""
