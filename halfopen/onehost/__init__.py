"""What is said of one host alone: its sockets counted, and what evidence it can give."""
