"""One node of the cluster; start reading at node.py. One file per technique of the paper's table 1."""
