"""What lasts: rounds of looks in order, or tables of several moments, around the suspects."""
