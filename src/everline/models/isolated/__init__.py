"""Models that answer in a process of their own, with an environment of their own, fed over shared memory."""
