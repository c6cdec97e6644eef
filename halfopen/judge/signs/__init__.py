"""One finding with all that was seen of it, what its sockets show, and the words for that."""
