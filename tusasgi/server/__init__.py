"""The command `tusasgi`: a server and its sweeper."""
