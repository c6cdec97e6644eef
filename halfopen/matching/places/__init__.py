"""Where an address lives: the network namespaces of hosts, what leads to each, and which are one."""
