"""What lasts, and how sure it is: rounds of looks, or tables, around the suspects, and byte counters."""
