"""The escrow, its client, and the gate: everything that makes money move, or keeps it from moving."""
