"""Whether this process is the host of a sync. The host sets it before it imports the project."""

# "sync", "form" or "test" under the host; None in any other process.
mode = None
# A developer's own run.
debug = False
# Whether the destination has a place for files.
takes_files = False
