"""The `gdpo` command."""

# The address of the preloaded parent (gdpo.cli.preload), in the environment of a workflow's jobs. It is here, since a
# command without one does not import what speaks to it.
SOCKET = "GDPO_PRELOADED"
