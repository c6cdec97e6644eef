"""What lasts, and how sure it is: byte counters and doubts, and rounds of looks, or tables, around the suspects."""
