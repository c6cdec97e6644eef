"""What two ends prove together: THE TABLE over their states, and their byte counters; what each verdict implies."""
